package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Every command that a person can see has a page, and roff has nothing to say
// about any.
func TestManPages(t *testing.T) {
	folder := t.TempDir()
	var errs bytes.Buffer
	if code := run(context.Background(), []string{"man", folder}, nil, &errs, &errs); code != exitOK {
		t.Fatal(errs.String())
	}
	for _, want := range []string{"coinop.1", "coinop-serve.1", "coinop-channel-open.1"} {
		if _, err := os.Stat(filepath.Join(folder, want)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "coinop-man.1")); err == nil {
		t.Error("a hidden command has a page")
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("groff shows the pages: install it, for example with apt-get install groff")
	}
	pages, _ := filepath.Glob(filepath.Join(folder, "*.1"))
	warned, err := exec.CommandContext(t.Context(), groff, append([]string{"-man", "-Tutf8", "-ww", "-z"}, pages...)...).CombinedOutput()
	if err != nil || len(warned) > 0 {
		t.Errorf("groff: %v\n%s", err, warned)
	}
	shown, err := exec.CommandContext(t.Context(), groff, "-man", "-Tutf8", "-P-cbou", filepath.Join(folder, "coinop-serve.1")).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"coinop serve [flags]", "--config", "(default coinop.toml)", "--json", "SEE ALSO"} {
		if !strings.Contains(string(shown), want) {
			t.Errorf("the page of serve does not show %q:\n%s", want, shown)
		}
	}
}

func TestRoff(t *testing.T) {
	for text, want := range map[string]string{
		"--to":           `\-\-to`,
		"a…b":            `a\[u2026]b`,
		".so /etc/evil":  `\&.so /etc/evil`,
		"a\n'b\n\nc":     "a\n\\&'b\n.PP\nc",
		`C:\new`:         `C:\enew`,
		"a \"word\" so.": `a "word" so.`,
	} {
		if got := roff(text); got != want {
			t.Errorf("roff(%q) = %q, want %q", text, got, want)
		}
	}
}

// The completions work in the shells themselves: bash is asked what "coinop s"
// may become, the others at least read theirs.
func TestCompletions(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "coinop"), []byte("#!/bin/sh\n"+asCoinop+"=1 exec "+self+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	needs := map[string]string{"bash": "/usr/share/bash-completion/bash_completion"}
	for shell, script := range map[string]string{
		"bash": `. ` + needs["bash"] + `; . <(coinop completion bash); complete -p coinop >/dev/null
			COMP_WORDS=(coinop s); COMP_CWORD=1; COMP_LINE="coinop s"; COMP_POINT=8; COMP_TYPE=9
			__start_coinop; printf '%s\n' "${COMPREPLY[@]}"`,
		"zsh":  `autoload -U compinit; compinit -u; coinop completion zsh >_coinop; . ./_coinop; echo $_comps[coinop] serve`,
		"fish": `coinop completion fish | source; complete -C"coinop s"`,
	} {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil {
				t.Skipf("no %s here; its completion is not tried", shell)
			}
			if _, err := os.Stat(needs[shell]); needs[shell] != "" && err != nil {
				t.Skipf("no %s here; install %s-completion", needs[shell], shell)
			}
			cmd := exec.CommandContext(t.Context(), shell, "-c", script)
			cmd.Dir = t.TempDir()
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+cmd.Dir)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "serve") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// The config that packages install is one that this build can start with.
func TestPackagedConfig(t *testing.T) {
	if _, err := readConfig("../../contrib/coinop.toml"); err != nil {
		t.Error(err)
	}
}
