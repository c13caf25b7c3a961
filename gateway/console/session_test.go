package console

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"coinop.dev/core/step"
)

// A browser that is quiet is logged out, and so is one that never is.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	s, now := newSessions(), step.Time(1_000_000)
	quiet, busy := s.open("token", now), s.open("token", now)
	if quiet == busy {
		t.Fatal("two sessions are one")
	}
	for now += sessionIdle; s.find(busy, now) != nil; now += sessionIdle {
		if now > 1_000_000+sessionLife {
			t.Fatal("a session has no end")
		}
	}
	if now < sessionLife {
		t.Errorf("a busy session ended at %d", now)
	}
	if s.find(quiet, now) != nil || len(s.in) != 0 {
		t.Errorf("%d sessions are left", len(s.in))
	}
}

// What is embedded of others is what they published.
func TestVendored(t *testing.T) {
	t.Parallel()
	list, err := files.ReadFile("static/ORIGIN")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(list)) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok || len(sum) != 64 {
			continue
		}
		n++
		body, err := files.ReadFile("static/" + name)
		if got := fmt.Sprintf("%x", sha256.Sum256(body)); err != nil || got != sum {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if n != 6 {
		t.Errorf("%d files", n)
	}
}
