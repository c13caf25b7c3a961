//go:build !omit_lab

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"coinop.dev/lab/report"
)

// One run of one workload, written in all formats; the second call measures nothing,
// and a report does not differ from itself.
func TestLabReport(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	coinop := func(args ...string) []byte {
		t.Helper()
		var out, problems bytes.Buffer
		cmd := exec.CommandContext(t.Context(), self, args...)
		cmd.Env = append(os.Environ(), asCoinop+"=1")
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &problems
		if err := cmd.Run(); err != nil {
			t.Fatalf("coinop %s: %v\n%s", strings.Join(args, " "), err, &problems)
		}
		return out.Bytes()
	}
	var r report.Report
	for range 2 {
		raw := coinop("lab", "report", "--quick", "--runs", "1", "--rail", "oneway,nano", "--workload", "streaming")
		if err := json.Unmarshal(raw, &r); err != nil {
			t.Fatal(err)
		}
		if len(r.Failed) > 0 || len(r.Cells) == 0 {
			t.Errorf("%d cells, failed: %+v", len(r.Cells), r.Failed)
		}
	}
	samples, err := report.ReadSamples(filepath.Join(dir, report.SamplesFile))
	if err != nil || len(samples) != 1 {
		t.Errorf("%d samples: %v", len(samples), err)
	}
	for _, name := range []string{report.HTMLFile, report.MarkdownFile, report.CSVFile} {
		if raw, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Contains(raw, []byte("streaming")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The console of a gateway shows it, and a README has the short table.
	for name, text := range map[string]string{"coinop.toml": "version = 1\ndata = \"data\"\n", "README.md": report.ReadmeBegin + "\n" + report.ReadmeEnd + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	coinop("lab", "report", "--render", "--out", ".", "--config", "coinop.toml", "--readme", "README.md")
	for name, want := range map[string]string{filepath.Join("data", consoleReport): "streaming", "README.md": "| One-way channel |"} {
		if raw, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Contains(raw, []byte(want)) {
			t.Errorf("%s: %v\n%s", name, err, raw)
		}
	}
	if out := coinop("lab", "compare", "--changed", ".", "."); strings.TrimSpace(string(out)) != "null" && strings.TrimSpace(string(out)) != "[]" {
		t.Errorf("a report differs from itself: %s", out)
	}
}
