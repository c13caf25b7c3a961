package storetest

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A call is a system call on a file, before the kernel carries it out.
type call struct {
	Name    string
	Path    string
	At, Len uint64
}

func (c call) kind() string { return watched[c.Name].kind }

func (c call) String() string {
	switch c.kind() {
	case "sync":
		return c.Name + " " + c.Path
	case "resize":
		return fmt.Sprintf("%s %s to %d", c.Name, c.Path, c.Len)
	}
	return fmt.Sprintf("%s %s %d bytes", c.Name, c.Path, c.Len)
}

// watched are the calls that change a file, and which argument is the length.
var watched = map[string]struct {
	number uintptr
	kind   string
	length int
}{
	"write":     {unix.SYS_WRITE, "write", 2},
	"pwrite":    {unix.SYS_PWRITE64, "write", 2},
	"fsync":     {unix.SYS_FSYNC, "sync", 0},
	"fdatasync": {unix.SYS_FDATASYNC, "sync", 0},
	"ftruncate": {sysFtruncate, "resize", 1},
}

// watch has the kernel stop this process, until its end, at every watched call
// and ask decide, which returns 0 to go on or the error the call shall give.
// decide must not make such calls itself.
//
// The mechanism is seccomp's user notification (Linux 5.19). Unlike a failing
// file system inside the program it also reaches a library that calls the
// kernel directly, as bbolt does, and it needs no privilege.
func watch(decide func(call) int32) error {
	runtime.LockOSThread() // no_new_privs is the thread's
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	filter := program()
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// Without WAIT_KILLABLE a signal, which Go sends to itself all the time,
	// would repeat a call that decide has seen already.
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC |
		unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	go answer(fd, decide)
	return nil
}

// program lets all calls through but the watched. A write of 8 bytes passes
// too: so the Go runtime wakes its poller, at moments when nobody could answer.
func program() []unix.SockFilter {
	const (
		number     = 0  // offset of the call's number in seccomp_data
		thirdArg   = 32 // offset of its third argument
		wakeupSize = 8
		load       = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		ifEqual    = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret        = unix.BPF_RET | unix.BPF_K
	)
	allow := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW}
	notify := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF}
	p := []unix.SockFilter{{Code: load, K: number}}
	for name, w := range watched {
		if name == "write" {
			p = append(p, unix.SockFilter{Code: ifEqual, K: uint32(w.number), Jf: 4},
				unix.SockFilter{Code: load, K: thirdArg},
				unix.SockFilter{Code: ifEqual, K: wakeupSize, Jf: 1}, allow, notify)
			continue
		}
		p = append(p, unix.SockFilter{Code: ifEqual, K: uint32(w.number), Jf: 1}, notify)
	}
	return append(p, allow)
}

// The kernel's struct seccomp_notif and seccomp_notif_resp.
type (
	question struct {
		id         uint64
		pid, flags uint32
		number     int32
		arch       uint32
		ip         uint64
		args       [6]uint64
	}
	reply struct {
		id    uint64
		value int64
		err   int32
		flags uint32
	}
)

func answer(fd uintptr, decide func(call) int32) {
	for {
		var q question
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&q))); errno != 0 {
			continue // the caller was interrupted and asks again
		}
		r := reply{id: q.id}
		if errno := decide(describe(q)); errno != 0 {
			r.err = -errno
		} else {
			r.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
		}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r)))
		if errno != 0 && errno != syscall.ENOENT { // ENOENT: interrupted meanwhile
			panic(fmt.Sprintf("answering a call: %v", errno))
		}
	}
}

func describe(q question) call {
	path, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", q.args[0])) // empty for what is no file
	for name, w := range watched {
		if int32(w.number) == q.number {
			return call{Name: name, Path: path, Len: q.args[w.length]}
		}
	}
	return call{Path: path}
}
