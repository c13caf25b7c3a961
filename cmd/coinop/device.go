package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"coinop.dev"
	"coinop.dev/core/earn"
	"coinop.dev/till"
)

// devices are what a machine of this binary can sell from.
var devices = map[string]func() till.Device{
	"sensor":  func() till.Device { return newSensor().deliver },
	"charger": func() till.Device { return newCharger().deliver },
}

// checkDeliverers refuses services that nothing of this binary delivers.
func checkDeliverers(c coinop.Config) error {
	for _, s := range c.Sell {
		kind, _, named := strings.Cut(s.From, ":")
		if devices[s.From] == nil && !(named && (kind == "device" || kind == "http" || kind == "https" || kind == "data")) {
			return usage{fmt.Errorf("item %q is sold from %q; there is sensor and charger, device:NAME, http://…, data:lines:FILE, data:files:FOLDER, data:device:NAME", s.Item, s.From)}
		}
	}
	return nil
}

// A reading is what a sensor delivers, as JSON.
type reading struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	At    int64  `json:"at_ms"`
}

// sensor reads the computer it runs on. Each order gets the next quantity.
type sensor struct {
	mu    sync.Mutex
	next  int
	reads []func() (name, value string, ok bool)
}

func newSensor() *sensor {
	s := &sensor{}
	for _, read := range []func() (string, string, bool){load, memory, network, temperature, runtimeMemory} {
		if _, _, ok := read(); ok { // this computer has it
			s.reads = append(s.reads, read)
		}
	}
	return s
}

func (s *sensor) deliver(_ context.Context, d earn.Deliver) ([]byte, error) {
	s.mu.Lock()
	read := s.reads[s.next%len(s.reads)]
	s.next++
	s.mu.Unlock()
	name, value, ok := read()
	if !ok {
		return nil, fmt.Errorf("%s cannot be read", name)
	}
	return json.Marshal(reading{name, value, time.Now().UnixMilli()})
}

func load() (string, string, bool) {
	raw, err := os.ReadFile("/proc/loadavg")
	one, _, ok := strings.Cut(string(raw), " ")
	return "load", one, err == nil && ok
}

func memory() (string, string, bool) {
	kib, ok := procField("/proc/meminfo", "MemAvailable:")
	return "memory available", fmt.Sprintf("%.0f MiB", kib/1024), ok
}

// procField finds the number behind a word in a /proc file.
func procField(path, word string) (v float64, ok bool) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, found := strings.CutPrefix(strings.TrimSpace(lines.Text()), word); found {
			n, _ := fmt.Sscan(rest, &v)
			return v, n == 1
		}
	}
	return 0, false
}

func network() (string, string, bool) {
	raw, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		return "network received", "", false
	}
	sum := uint64(0)
	for line := range strings.Lines(string(raw)) {
		var received uint64
		if _, rest, ok := strings.Cut(line, ":"); ok {
			if n, _ := fmt.Sscan(rest, &received); n == 1 {
				sum += received
			}
		}
	}
	return "network received", fmt.Sprintf("%.1f MiB", float64(sum)/(1<<20)), true
}

func temperature() (string, string, bool) {
	zones, _ := filepath.Glob("/sys/class/thermal/thermal_zone*/temp")
	for _, z := range zones {
		var milli float64
		if raw, err := os.ReadFile(z); err == nil {
			if n, _ := fmt.Sscan(string(raw), &milli); n == 1 && milli > 0 {
				return "temperature", fmt.Sprintf("%.1f °C", milli/1000), true
			}
		}
	}
	return "temperature", "", false
}

func runtimeMemory() (string, string, bool) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return "this program's heap", fmt.Sprintf("%.1f MiB", float64(m.HeapAlloc)/(1<<20)), true
}

// charger is a simulated meter and says so: nothing is charged. It runs as fast
// as it is paid, and its power wavers a little, as a car's does.
type charger struct {
	mu    sync.Mutex
	mWh   uint64
	begin time.Time
}

func newCharger() *charger { return &charger{begin: time.Now()} }

func (c *charger) deliver(_ context.Context, d earn.Deliver) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mWh += d.Units
	power := 7400 + 150*math.Sin(time.Since(c.begin).Seconds()/3)
	return json.Marshal(reading{"meter (simulated)", fmt.Sprintf("%.3f Wh at %.0f W", float64(c.mWh)/1000, power), time.Now().UnixMilli()})
}
