module changelogd.example/go

go 1.26.0

require (
	// A semaphore whose wait ends with the caller's context: the bounds of Writer.
	golang.org/x/sync v0.22.0
	// The messages of google.rpc in a call's error: ErrorInfo, BadRequest and RetryInfo.
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260825221802-da73d73af1c5
	// Calls, retries and keepalive.
	google.golang.org/grpc v1.83.2
	// The generated messages, and their size.
	google.golang.org/protobuf v1.36.12
)

require (
	golang.org/x/net v0.58.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
	golang.org/x/text v0.41.0 // indirect
)
