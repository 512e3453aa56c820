module calculator

go 1.24

require (
	github.com/golang/snappy v1.0.0
	github.com/rabbitmq/amqp091-go v1.16.0
	google.golang.org/protobuf v1.36.12
)
