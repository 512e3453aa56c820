"""The same publisher with eight consumers behind a fanout exchange, each on a connection of its own."""

from .traffic_peer import Scenario

if __name__ == "__main__":
    Scenario(consumers=8, prefetch=0).main()
