package systemd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"coinop.dev/world/systemd"
)

// manager is systemd's end: a socket of its own, named in the environment.
func manager(t *testing.T, name string) (hear func() string) {
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return func() string {
		b := make([]byte, 4096)
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, err := c.Read(b)
		if err != nil {
			t.Fatalf("nothing was said: %v", err)
		}
		return string(b[:n])
	}
}

func TestLife(t *testing.T) {
	sockets := map[string]string{"path": filepath.Join(t.TempDir(), "notify")}
	if runtime.GOOS == "linux" {
		sockets["abstract"] = fmt.Sprintf("@coinop-test-%d", os.Getpid())
	}
	for kind, name := range sockets {
		t.Run(kind, func(t *testing.T) {
			hear := manager(t, name)
			for _, said := range []struct {
				states []string
				want   string
			}{
				{[]string{systemd.Ready, systemd.Status("sells\n1 item")}, "READY=1\nSTATUS=sells 1 item"},
				{[]string{systemd.Alive}, "WATCHDOG=1"},
				{[]string{systemd.Stopping}, "STOPPING=1"},
			} {
				if err := systemd.Notify(said.states...); err != nil {
					t.Fatal(err)
				}
				if got := hear(); got != said.want {
					t.Errorf("heard %q, want %q", got, said.want)
				}
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := systemd.Notify(systemd.Ready); err != nil {
		t.Errorf("without a manager: %v", err)
	}
	for _, gone := range []string{filepath.Join(t.TempDir(), "gone"), "vsock:2:1234", "relative"} {
		t.Setenv("NOTIFY_SOCKET", gone)
		if err := systemd.Notify(systemd.Ready); err == nil {
			t.Errorf("%s: a manager that cannot be told is no error", gone)
		}
	}
}

func TestInterval(t *testing.T) {
	self, other := strconv.Itoa(os.Getpid()), strconv.Itoa(os.Getpid()+1)
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0}, {"60000000", "", time.Minute}, {"60000000", self, time.Minute},
		{"60000000", other, 0}, {"-1", self, 0}, {"soon", self, 0}, {"99999999999999999999", self, 0},
	} {
		t.Setenv("WATCHDOG_USEC", c.usec)
		t.Setenv("WATCHDOG_PID", c.pid)
		if got := systemd.Interval(); got != c.want {
			t.Errorf("WATCHDOG_USEC=%q WATCHDOG_PID=%q: %v, want %v", c.usec, c.pid, got, c.want)
		}
	}
}

// A machine that is well says so again and again; one that is not says why, and
// is alive no more.
func TestWatch(t *testing.T) {
	hear := manager(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("WATCHDOG_PID", "")
	t.Setenv("WATCHDOG_USEC", "20000")
	ctx, cancel := context.WithCancel(t.Context())
	sick := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		systemd.Watch(ctx, func(context.Context) error {
			select {
			case err := <-sick:
				sick <- err // for good
				return err
			default:
				return nil
			}
		})
	}()
	for range 3 {
		if got := hear(); got != systemd.Alive {
			t.Fatalf("heard %q of a machine that is well", got)
		}
	}
	sick <- errors.New("the disk is full")
	got := hear()
	for got == systemd.Alive { // what was under way
		got = hear()
	}
	for range 3 {
		if got != "STATUS=unwell: the disk is full" {
			t.Fatalf("heard %q of a machine that is not", got)
		}
		got = hear()
	}
	cancel()
	<-done

	t.Setenv("WATCHDOG_USEC", "")
	systemd.Watch(t.Context(), func(context.Context) error {
		t.Error("nobody asked how it is")
		return nil
	})
}
