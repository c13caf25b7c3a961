// Command tiny takes coinop's place in the tests of the release: it writes a man
// page and completions, and is compiled in no time.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	switch {
	case len(os.Args) == 3 && os.Args[1] == "man":
		if err := os.MkdirAll(os.Args[2], 0o755); err != nil {
			panic(err)
		}
		if err := os.WriteFile(filepath.Join(os.Args[2], "coinop.1"), []byte(".TH COINOP 1\n.SH NAME\ncoinop \\- tiny\n"), 0o644); err != nil {
			panic(err)
		}
	case len(os.Args) == 3 && os.Args[1] == "completion":
		fmt.Println("# for", os.Args[2])
	default:
		fmt.Println("tiny")
	}
}
