package peers

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process has used since it started. What cannot be read is 0.
type Usage struct {
	CPU time.Duration // user and system, in steps of 10 ms
	// DiskBytes is /proc/<pid>/io write_bytes: the page cache that was made
	// dirty. A kernel with large folios counts a whole one, up to 2 MB, for each
	// small write into it, so only differences in kind mean much.
	DiskBytes int64
	// Written is wchar: what was handed to write calls, sockets included.
	Written   int64
	RSSBytes  int64 // resident now
	PeakBytes int64 // resident at most
}

// Sub is what was used since an earlier reading; memory is as it is now.
func (u Usage) Sub(earlier Usage) Usage {
	u.CPU -= earlier.CPU
	u.DiskBytes -= earlier.DiskBytes
	u.Written -= earlier.Written
	return u
}

// clockTick is the unit of /proc/<pid>/stat on Linux, whatever the kernel's own
// tick is (proc_pid_stat(5), USER_HZ).
const clockTick = 10 * time.Millisecond

// UsageOf reads /proc of a process.
func UsageOf(pid int) (u Usage) {
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		// The fields are counted behind the name, which may hold anything.
		_, rest, _ := strings.Cut(string(stat), ") ")
		if f := strings.Fields(rest); len(f) > 12 {
			user, _ := strconv.ParseInt(f[11], 10, 64)
			system, _ := strconv.ParseInt(f[12], 10, 64)
			u.CPU = time.Duration(user+system) * clockTick
		}
	}
	u.DiskBytes = field(fmt.Sprintf("/proc/%d/io", pid), "write_bytes:")
	u.Written = field(fmt.Sprintf("/proc/%d/io", pid), "wchar:")
	u.RSSBytes = field(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:") << 10
	u.PeakBytes = field(fmt.Sprintf("/proc/%d/status", pid), "VmHWM:") << 10
	return u
}

// field reads the number behind a name.
func field(path, name string) (n int64) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, _ = strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return n
}

// Usage is what the process has used.
func (p *Process) Usage() Usage { return UsageOf(p.Pid()) }
