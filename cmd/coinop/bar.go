package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// A bar shows progress on a terminal, and nothing elsewhere.
type bar struct {
	w     io.Writer
	what  string
	total uint64
	begin time.Time
	last  time.Time
}

func newBar(u *ui, what string, total uint64) *bar {
	b := &bar{what: what, total: total, begin: time.Now()}
	if terminal(u.err) {
		b.w = u.err
	}
	return b
}

const barWidth = 30

func (b *bar) set(done uint64) {
	if b.w == nil || time.Since(b.last) < 100*time.Millisecond && done < b.total {
		return
	}
	b.last = time.Now()
	full := int(barWidth * done / max(b.total, 1))
	left := ""
	if done > 0 && done < b.total {
		left = fmt.Sprintf("%v left", (time.Since(b.begin) * time.Duration(b.total-done) / time.Duration(done)).Round(time.Second))
	}
	fmt.Fprintf(b.w, "\r%s%s  %d/%d %s  %-12s", strings.Repeat("█", full), strings.Repeat("░", barWidth-full), done, b.total, b.what, left)
}

func (b *bar) end() {
	if b.w != nil {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}
