// Package check ends the program with 1 at the first thing that is not as it has to be.
package check

import (
	"fmt"
	"os"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// Fail says what is wrong, and ends the program.
func Fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}

// Got is the value of a call that has to succeed.
func Got[T any](value T, err error) T {
	if err != nil {
		Fail("%T: %v", value, err)
	}
	return value
}

// Equal compares.
func Equal[T comparable](what string, is, wanted T) {
	if is != wanted {
		Fail("%s: %v instead of %v", what, is, wanted)
	}
}

// Refused is for a call that has to fail with this code and text.
func Refused(err error, code codes.Code, text string) {
	Equal("status", status.Code(err), code)
	Equal("text", status.Convert(err).Message(), text)
}

// Dial opens a connection without TLS.
func Dial(address string) *grpc.ClientConn {
	return Got(grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials())))
}

// Number reads an id.
func Number(text string) uint64 {
	return Got(strconv.ParseUint(text, 10, 64))
}
