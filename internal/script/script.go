// Package script runs tests written as conversations: a command, a line of
// dashes, and what it printed, up to the next blank line. Run with -update to
// accept new output, then read the diff.
//
//	# The payer crashes after sending; the promise is on disk.
//	pay order-1 12 sat
//	----
//	put oneway/payer/c1
//	send ticket c1 12 sat
//
//	crash payer
//	----
//	signed 12 sat acked 0 sat pending 1
//
// Lines that start with # before a command are for the reader. A command may
// have several lines; a blank line of output is written as a lone dot.
package script

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the outputs of scripts")

// Run plays every file matching glob as a subtest. start is called once per
// file and returns the function that obeys its commands.
func Run(t *testing.T, glob string, start func(t *testing.T) func(command string) string) {
	t.Helper()
	paths, err := filepath.Glob(glob)
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Fatalf("no script matches %s", glob)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			changed, err := playFile(path, *update, start(t))
			if err != nil {
				t.Fatal(err)
			}
			if changed != "" {
				t.Errorf("output changed; run with -update to accept it\n%s", changed)
			}
		})
	}
}

// playFile plays one file. It either accepts what changed or says it.
func playFile(path string, accept bool, obey func(string) string) (changed string, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	blocks, err := parse(string(raw))
	if err != nil {
		return "", fmt.Errorf("%s:%w", path, err)
	}
	var played, diffs strings.Builder
	for i := range blocks {
		b := &blocks[i]
		if len(b.command) > 0 {
			got := lines(obey(strings.Join(b.command, "\n")))
			if !slices.Equal(got, b.output) {
				fmt.Fprintf(&diffs, "%s:%d: %s\n", path, b.line, strings.Join(b.command, "\n\t"))
				diff(&diffs, b.output, got)
			}
			b.output = got
		}
		b.write(&played, i == 0)
	}
	if accept && played.String() != string(raw) {
		return "", os.WriteFile(path, []byte(played.String()), 0o644)
	}
	return diffs.String(), nil
}

const dashes = "----"

// A block is what stands between two blank lines.
type block struct {
	line    int // of its command, from 1
	comment []string
	command []string // none if the block is all comment
	output  []string
}

func parse(text string) (all []block, err error) {
	var b block
	inOutput := false
	end := func() {
		if b.comment != nil || b.command != nil {
			all = append(all, b)
		}
		b, inOutput = block{}, false
	}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, " \t\r\n")
		switch {
		case line == "":
			end()
		case inOutput:
			b.output = append(b.output, line)
		case line == dashes && b.command == nil:
			return nil, fmt.Errorf("%d: %w", n, errNoCommand)
		case line == dashes:
			inOutput = true
		case strings.HasPrefix(line, "#") && b.command == nil:
			b.comment = append(b.comment, line)
		default:
			if b.command == nil {
				b.line = n
			}
			b.command = append(b.command, line)
		}
	}
	end()
	return all, nil
}

var errNoCommand = errors.New("output without a command above it")

func (b *block) write(out *strings.Builder, first bool) {
	if !first {
		out.WriteByte('\n')
	}
	text := slices.Concat(b.comment, b.command)
	if b.command != nil {
		text = append(append(text, dashes), b.output...)
	}
	for _, line := range text {
		out.WriteString(line)
		out.WriteByte('\n')
	}
}

// lines is output as a script can hold it: no space at the end of a line, no
// blank lines at the end, a dot for each one within.
func lines(output string) (all []string) {
	for line := range strings.SplitSeq(output, "\n") {
		if line = strings.TrimRight(line, " \t\r"); line == "" {
			line = "."
		}
		all = append(all, line)
	}
	for len(all) > 0 && all[len(all)-1] == "." {
		all = all[:len(all)-1]
	}
	return all
}

// diff prints want with the lines taken out and put in that make it got.
func diff(out *strings.Builder, want, got []string) {
	// same[i][j] is how many lines want[i:] and got[j:] share at most, in order.
	same := make([][]int, len(want)+1)
	for i := range same {
		same[i] = make([]int, len(got)+1)
	}
	for i := len(want) - 1; i >= 0; i-- {
		for j := len(got) - 1; j >= 0; j-- {
			if want[i] == got[j] {
				same[i][j] = 1 + same[i+1][j+1]
			} else {
				same[i][j] = max(same[i+1][j], same[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(want) || j < len(got) {
		switch {
		case i < len(want) && j < len(got) && want[i] == got[j]:
			out.WriteString("      " + want[i] + "\n")
			i, j = i+1, j+1
		case j == len(got) || i < len(want) && same[i+1][j] >= same[i][j+1]:
			out.WriteString("    - " + want[i] + "\n")
			i++
		default:
			out.WriteString("    + " + got[j] + "\n")
			j++
		}
	}
}
