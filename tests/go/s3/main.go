// Command s3 is an S3-compatible object store in memory (gofakes3) for the tests of scheduled snapshots: it makes the bucket
// that is named, prints where it listens, and serves until it is killed. Requests without a signature are refused.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

func main() {
	backend := s3mem.New()
	if err := backend.CreateBucket(os.Args[1]); err != nil {
		fail(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	store := gofakes3.New(backend).Server()
	signed := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=test-key/") {
			http.Error(w, "not signed", http.StatusForbidden)
			return
		}
		store.ServeHTTP(w, r)
	})
	fail(http.Serve(listener, signed))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
