package lab

import (
	"os"
	"runtime/pprof"
)

// profiler writes base.cpu and base.heap when an end stops, for go tool pprof.
type profiler struct {
	base string
	cpu  *os.File
}

func (p *profiler) start(base string) {
	if base == "" {
		return
	}
	f, err := os.Create(base + ".cpu")
	if err != nil {
		return
	}
	p.base, p.cpu = base, f
	pprof.StartCPUProfile(f)
}

func (p *profiler) stop() {
	if p.cpu == nil {
		return
	}
	pprof.StopCPUProfile()
	p.cpu.Close()
	if f, err := os.Create(p.base + ".heap"); err == nil {
		pprof.WriteHeapProfile(f)
		f.Close()
	}
}
