package script

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// newTill obeys: add N, receipt, hush.
func newTill(*testing.T) func(string) string {
	sum := 0
	return func(command string) string {
		var out strings.Builder
		for line := range strings.SplitSeq(command, "\n") {
			verb, number, _ := strings.Cut(line, " ")
			switch verb {
			case "add":
				n, _ := strconv.Atoi(number)
				sum += n
				fmt.Fprintf(&out, "%d sat  \n", sum)
			case "receipt":
				fmt.Fprintf(&out, "paid\n\n%d sat\n\n", sum)
			}
		}
		return out.String()
	}
}

func TestScripts(t *testing.T) { Run(t, "testdata/*.txt", newTill) }

const story = `add 5
----
5 sat

# Wrong, and longer than it should be.
add 1
add 2
----
6 sat
7 sat
8 sat

add 1
`

func storyFile(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "story.txt")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAChangeIsShownByItself(t *testing.T) {
	path := storyFile(t, story)
	changed, err := playFile(path, false, newTill(t))
	if err != nil {
		t.Fatal(err)
	}
	want := path + ":6: add 1\n\tadd 2\n" +
		"      6 sat\n    - 7 sat\n      8 sat\n" +
		path + ":13: add 1\n" +
		"    + 9 sat\n"
	if changed != want {
		t.Errorf("it says\n%s\nand should say\n%s", changed, want)
	}
	if raw, _ := os.ReadFile(path); string(raw) != story {
		t.Error("the file changed without -update")
	}
}

func TestAnAcceptedScriptPlaysAgain(t *testing.T) {
	path := storyFile(t, story)
	if _, err := playFile(path, true, newTill(t)); err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(story, "7 sat\n", "", 1) + "----\n9 sat\n"
	if raw, _ := os.ReadFile(path); string(raw) != want {
		t.Errorf("accepted as\n%s\nnot\n%s", raw, want)
	}
	changed, err := playFile(path, false, newTill(t))
	if changed != "" || err != nil {
		t.Errorf("played again: %s, %v", changed, err)
	}
}

func TestOutputNeedsACommand(t *testing.T) {
	path := storyFile(t, "# lonely\n----\n5 sat\n")
	if _, err := playFile(path, true, newTill(t)); !errors.Is(err, errNoCommand) {
		t.Errorf("got %v", err)
	}
}
