// Package calculatorpb holds the messages of proto/calculator.proto.
package calculatorpb

//go:generate protoc --proto_path=../../../proto --go_out=. --go_opt=paths=source_relative --go_opt=Mcalculator.proto=calculator/calculatorpb calculator.proto
