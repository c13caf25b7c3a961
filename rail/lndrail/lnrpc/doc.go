// Package lnrpc is the part of lnd's gRPC API that coinop speaks, in protobuf
// messages of our own: lnd's own package needs replaced modules and brings four
// hundred of them. The three .proto files say where each number comes from.
//
// Everything but this file is generated, with protoc 3.21.12 (Debian's
// protobuf-compiler) and the plugins that the lines below install.
package lnrpc

//go:generate env GOBIN=/tmp/coinop-protoc go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
//go:generate env GOBIN=/tmp/coinop-protoc go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
//go:generate env PATH=/tmp/coinop-protoc:/usr/bin protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative lightning.proto router.proto invoices.proto
