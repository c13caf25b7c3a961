package report

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// describe asks the kernel.
func (e *Environment) describe() {
	e.CPU = procField("/proc/cpuinfo", "model name")
	if kib, err := strconv.ParseInt(strings.TrimSuffix(procField("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		e.Memory = kib << 10
	}
	var u syscall.Utsname
	if syscall.Uname(&u) == nil {
		var release []byte
		for _, c := range u.Release {
			release = append(release, byte(c))
		}
		e.Kernel = "Linux " + string(bytes.TrimRight(release, "\x00"))
	}
}

// procField is what stands behind "name:" in a file of /proc.
func procField(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func loadAverage() *float64 {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return nil
	}
	var one float64
	if _, err := fmt.Sscan(string(raw), &one); err != nil {
		return nil
	}
	return &one
}

// steal is the time that the host gave to others, and all time, in ticks.
func steal() (stolen, all uint64) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	if !s.Scan() {
		return 0, 0
	}
	for i, word := range strings.Fields(s.Text())[1:] {
		n, _ := strconv.ParseUint(word, 10, 64)
		if i < 8 { // what guests take is in user time as well
			all += n
		}
		if i == 7 {
			stolen = n
		}
	}
	return stolen, all
}
