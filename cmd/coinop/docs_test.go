package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var fence = regexp.MustCompile("(?ms)^```(sh|toml)( [^\\n]*)?\\n(.*?)^```$")

// The guides are run as they stand: files are written, commands obeyed in one
// shell that stops at the first that fails.
//
// They wait more than they work, each with ports of its own, so they run at once.
func TestGuides(t *testing.T) {
	t.Parallel()
	guides, _ := filepath.Glob("../../docs/guides/*.md")
	if len(guides) == 0 {
		t.Fatal("there are no guides")
	}
	for _, path := range guides {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".md"), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := exec.LookPath("curl"); err != nil && strings.Contains(string(raw), "curl ") {
				t.Skip("the guide needs curl: install it, for example with apt-get install curl")
			}
			dir, bin := t.TempDir(), t.TempDir()
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			wrapper := "#!/bin/sh\n" + asCoinop + "=1 exec " + self + " \"$@\"\n"
			if err := os.WriteFile(filepath.Join(bin, "coinop"), []byte(wrapper), 0o755); err != nil {
				t.Fatal(err)
			}
			script := "set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" // or what runs in the background keeps a guide that failed waiting
			for _, block := range fence.FindAllStringSubmatch(string(raw), -1) {
				kind, name, body := block[1], strings.TrimSpace(block[2]), block[3]
				if kind == "sh" {
					script += body
				} else if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			} else {
				t.Logf("%s", out)
			}
		})
	}
}
