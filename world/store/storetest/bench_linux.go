package storetest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"coinop.dev/core/step"
	"coinop.dev/world/store"
)

// Bench makes commits of records of size bytes, half of them random as keys and
// signatures are, under keys in no order, and reports what each record cost and
// how much memory the process has at the end.
func Bench(b *testing.B, db store.DB, commits, records, size int) {
	noise := rand.NewChaCha8([32]byte{1})
	batch := make([]step.Record, records)
	before, began, cpu := db.(store.Counter).Counts(), time.Now(), cpuTime()
	for range commits {
		for i := range batch {
			value := make([]byte, size)
			noise.Read(value[:size/2])
			var id [16]byte
			binary.LittleEndian.PutUint64(id[:], noise.Uint64())
			batch[i] = step.Record{Key: fmt.Sprintf("order/%x", id[:8]), Value: value}
		}
		if err := db.Commit(batch); err != nil {
			b.Fatal(err)
		}
	}
	after, n := db.(store.Counter).Counts(), float64(commits*records)
	b.ReportMetric(float64(time.Since(began).Nanoseconds())/float64(commits), "ns/commit")
	b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/n, "cpu-ns/record")
	b.ReportMetric(float64(after.Bytes-before.Bytes)/n, "B/record")
	b.ReportMetric(float64(after.Fsyncs-before.Fsyncs)/float64(commits), "fsync/commit")
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	b.ReportMetric(float64(mem.HeapInuse)/(1<<20), "heap-MiB")
	b.ReportMetric(statusMiB("VmRSS:"), "RSS-MiB")
	b.ReportMetric(statusMiB("RssAnon:"), "anon-MiB")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// statusMiB is a line of /proc/self/status, in MiB.
func statusMiB(name string) float64 {
	status, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(status), name)
	kib, _ := strconv.ParseFloat(strings.Fields(rest + " 0")[0], 64)
	return kib / 1024
}
