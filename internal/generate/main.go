// Command generate writes protocol/pb from protocol/control.proto: it compiles
// the file with protocompile and hands it to protoc-gen-go, so that no protoc
// need be installed. Run it as `go generate ./protocol`.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run() error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	files, err := generate(root)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := f.write(root); err != nil {
			return err
		}
	}
	return nil
}
