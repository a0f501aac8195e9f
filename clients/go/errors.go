package changelogd

import (
	"context"
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "changelogd.example/go/changelogv1"
)

// Error says why a call, a mutation of a Writer or a buffered write failed.
type Error struct {
	Code codes.Code
	// Reason is for programs. It is empty if the error comes from a library, or from a proxy on the way.
	Reason string
	// Message is for people.
	Message string
	// Field is the wrong field of the request. It is empty if no field is wrong.
	Field string
	// RetryAfter is how long to wait before the next attempt. It is 0 if waiting does not help.
	RetryAfter time.Duration
	// Metadata has facts, such as "limit" and "got".
	Metadata map[string]string
}

// ErrIncomplete is the error of a load or stream that ended without an error and without its Snapshot. It may be
// repeated, but what it delivered is not the whole state.
var ErrIncomplete = &Error{Code: codes.Internal, Message: "the stream ended without its Snapshot, so it is incomplete"}

func (e *Error) Error() string {
	text := "changelogd: " + e.Code.String()
	if e.Reason != "" {
		text += " (" + e.Reason + ")"
	}
	return text + ": " + e.Message
}

// GRPCStatus makes status.Code and status.FromError work with an Error.
func (e *Error) GRPCStatus() *status.Status {
	return status.New(e.Code, e.Message)
}

// SafeToRetry reports whether the server said that nothing was written, or that the read may start again.
func (e *Error) SafeToRetry() bool {
	switch e.Code {
	case codes.Unavailable, codes.ResourceExhausted, codes.Aborted:
		return e.Reason != ""
	case codes.DeadlineExceeded:
		return e.Reason == "DEADLINE"
	default:
		return false
	}
}

// errorOf makes an Error of an error of gRPC. Details that can't be decoded are left out.
func errorOf(err error) error {
	var known *Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	answer := status.Convert(err)
	// gRPC puts how often it tried in front of the last answer. Message is the server's.
	var last interface{ GRPCStatus() *status.Status }
	if errors.As(err, &last) {
		answer = last.GRPCStatus()
	}
	e := &Error{Code: answer.Code(), Message: answer.Message()}
	for _, detail := range answer.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == "changelogd" {
				e.Reason, e.Metadata = detail.GetReason(), detail.GetMetadata()
			}
		case *errdetails.BadRequest:
			if violations := detail.GetFieldViolations(); len(violations) > 0 {
				e.Field = violations[0].GetField()
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	return e
}

// errorOfContext is the error of a wait that ended with its context.
func errorOfContext(ctx context.Context) error {
	return errorOf(status.FromContextError(ctx.Err()).Err())
}

// errorOfMessage makes an Error of a verdict's error, or of a buffered write's.
func errorOfMessage(e *pb.Error) *Error {
	return &Error{
		Code:       codes.Code(e.GetCode()),
		Reason:     e.GetReason(),
		Message:    e.GetMessage(),
		Field:      e.GetField(),
		RetryAfter: e.GetRetryAfter().AsDuration(),
		Metadata:   e.GetMetadata(),
	}
}
