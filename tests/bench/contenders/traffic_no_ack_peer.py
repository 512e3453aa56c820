"""The same publisher and consumer without acknowledgements: a message is gone when it is sent."""

from .traffic_peer import Scenario

if __name__ == "__main__":
    Scenario(prefetch=0).main()
