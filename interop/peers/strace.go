package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ErrNoStrace means that system calls cannot be counted here.
var ErrNoStrace = errors.New("strace is not installed (apt-get install strace), or may not attach")

// CountSyncs counts a process's calls that wait for the disk, by name, until
// stop is called, with strace, which slows the process down: never measure time
// meanwhile.
func CountSyncs(ctx context.Context, pid int) (stop func() (map[string]int64, error), err error) {
	path, err := exec.LookPath("strace")
	if err != nil {
		return nil, ErrNoStrace
	}
	home, err := os.MkdirTemp("", "coinop-strace-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(home, "calls")
	p, err := start(ctx, "strace", path, home, "-f", "-c", "-e", "trace=fsync,fdatasync,msync,sync_file_range", "-o", file, "-p", fmt.Sprint(pid))
	if err != nil {
		os.RemoveAll(home)
		return nil, err
	}
	err = p.await(ctx, "it attaches", func() error {
		if field(fmt.Sprintf("/proc/%d/status", pid), "TracerPid:") != int64(p.Pid()) {
			return ErrNoStrace
		}
		return nil
	})
	if err != nil {
		p.Kill()
		os.RemoveAll(home)
		return nil, err
	}
	time.Sleep(attaching)
	return func() (map[string]int64, error) {
		defer os.RemoveAll(home)
		p.cmd.Process.Signal(syscall.SIGINT)
		<-p.done
		text, err := os.ReadFile(file)
		return calls(string(text)), err
	}, nil
}

// attaching is how long strace needs for the threads after the first.
const attaching = 200 * time.Millisecond

// calls reads strace's table: % time, seconds, usecs/call, calls, errors if
// there are any, and the call's name.
func calls(table string) map[string]int64 {
	all := map[string]int64{}
	for line := range strings.Lines(table) {
		var share, seconds float64
		var each, count int64
		f := strings.Fields(line)
		if n, _ := fmt.Sscan(line, &share, &seconds, &each, &count); n == 4 && f[len(f)-1] != "total" {
			all[f[len(f)-1]] = count
		}
	}
	return all
}
