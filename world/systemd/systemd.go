// Package systemd tells the service manager how the program is: ready, alive,
// stopping. It is the protocol of sd_notify(3): one datagram of lines to the
// socket in $NOTIFY_SOCKET. Where nobody listens, nothing happens.
package systemd

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// States, as sd_notify(3) spells them.
const (
	Ready    = "READY=1"    // it can take payments
	Stopping = "STOPPING=1" // it finishes what is in hand, and goes
	Alive    = "WATCHDOG=1" // or systemd kills and restarts it
)

// writeTimeout bounds how long a manager that does not read can hold us up.
const writeTimeout = time.Second

// Status is a state that "systemctl status" shows to a person: one line.
func Status(text string) string {
	return "STATUS=" + strings.Join(strings.Fields(text), " ")
}

// Notify sends states in one datagram. It returns nil if no manager asked for
// any; an error says that one did and could not be told, which is worth a line
// in the log and no more.
func Notify(states ...string) error {
	addr := os.Getenv("NOTIFY_SOCKET")
	if addr == "" {
		return nil
	}
	if addr[0] != '/' && addr[0] != '@' { // a path, or a name in Linux's abstract space
		return fmt.Errorf("systemd: NOTIFY_SOCKET is %q; only unix sockets are known", addr)
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("systemd: %w", err)
	}
	defer c.Close()
	c.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := c.Write([]byte(strings.Join(states, "\n"))); err != nil {
		return fmt.Errorf("systemd: %w", err)
	}
	return nil
}

// Interval is how often systemd wants to hear Alive at least (WatchdogSec), or 0
// if it does not ask this process.
func Interval() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	us, err := strconv.ParseUint(os.Getenv("WATCHDOG_USEC"), 10, 32) // 32 bits: an hour and more
	if err != nil {
		return 0
	}
	return time.Duration(us) * time.Microsecond
}

// Watch says Alive twice per Interval for as long as healthy returns nil, until
// ctx ends; it returns at once if systemd does not ask. What healthy finds, it
// tells as the status, and leaves the rest to systemd.
func Watch(ctx context.Context, healthy func(context.Context) error) {
	interval := Interval()
	if interval == 0 {
		return
	}
	tick := time.NewTicker(max(interval/2, time.Millisecond))
	defer tick.Stop()
	for {
		// A check that hangs is as bad as one that fails.
		check, cancel := context.WithTimeout(ctx, interval/2)
		err := healthy(check)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			Notify(Status("unwell: " + err.Error()))
		default:
			Notify(Alive)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
