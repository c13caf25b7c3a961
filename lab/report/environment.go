package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An Environment is the computer and the program. Samples of two environments are
// never put together.
type Environment struct {
	CPU     string `json:"cpu"`
	Cores   int    `json:"cores"`
	Memory  int64  `json:"memory_bytes,omitempty"`
	Kernel  string `json:"kernel"`
	System  string `json:"system"` // GOOS/GOARCH
	Go      string `json:"go"`
	Program string `json:"program"` // digest of the executable
}

// Digest names the environment in samples.
func (e *Environment) Digest() string { return digest(e) }

// Here is the environment of this process. What cannot be had is empty.
func Here() Environment {
	e := Environment{Cores: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	if path, err := os.Executable(); err == nil {
		if f, err := os.Open(path); err == nil {
			h := sha256.New()
			if _, err := io.Copy(h, f); err == nil {
				e.Program = hex.EncodeToString(h.Sum(nil)[:6])
			}
			f.Close()
		}
	}
	e.describe()
	return e
}

// Noise is what else the computer does, and how steady it is, looked at before and
// after a session.
type Noise struct {
	LoadAverage *float64 `json:"load_average,omitempty"` // of the last minute
	// A fixed piece of work of about a millisecond, again and again on one processor:
	// the median, and how much longer the slowest hundredth took.
	SpinUs   float64 `json:"spin_us"`
	SpinP99  float64 `json:"spin_p99_to_median"`
	StealPct float64 `json:"steal_percent"` // processor time that the host took, meanwhile
	// An fsync after 4 KiB in a new file where the stores are.
	FsyncUs    float64 `json:"fsync_us"`
	FsyncP99Us float64 `json:"fsync_p99_us"`
}

// A Session is one call of the report: samples of its environment were added
// between its two looks.
type Session struct {
	Env    Environment `json:"environment"`
	Digest string      `json:"env"`
	Quick  bool        `json:"quick"`
	Runs   int         `json:"runs"`
	Begin  time.Time   `json:"begin"`
	End    time.Time   `json:"end,omitzero"`
	Before Noise       `json:"before"`
	After  *Noise      `json:"after,omitempty"`
	Added  int         `json:"samples_added"`
	Plans  []Planned   `json:"plans"`
}

const (
	spins      = 100
	spinHashes = 8_000
	syncs      = 50
	syncBytes  = 4096
)

// Look measures the noise for about a second; dir is where the stores are.
func Look(dir string) (n Noise, err error) {
	stolen, all := steal()
	n.LoadAverage = loadAverage()
	word := sha256.Sum256(nil)
	n.SpinUs, n.SpinP99 = spread(spins, func() error {
		for range spinHashes {
			word = sha256.Sum256(word[:])
		}
		return nil
	}, &err)
	n.SpinP99 /= n.SpinUs
	if after, total := steal(); total > all {
		n.StealPct = 100 * float64(after-stolen) / float64(total-all)
	}
	f, fault := os.CreateTemp(dir, "coinop-fsync-")
	if fault != nil {
		return n, fault
	}
	defer os.Remove(f.Name())
	defer f.Close()
	record := make([]byte, syncBytes)
	n.FsyncUs, n.FsyncP99Us = spread(syncs, func() error {
		if _, err := f.Write(record); err != nil {
			return err
		}
		return f.Sync()
	}, &err)
	return n, err
}

// spread times something: the median and the slowest hundredth, in microseconds.
func spread(times int, do func() error, fault *error) (median, p99 float64) {
	took := make([]float64, times)
	for i := range took {
		begin := time.Now()
		if err := do(); err != nil && *fault == nil {
			*fault = err
		}
		took[i] = float64(time.Since(begin).Nanoseconds()) / 1e3
	}
	slices.Sort(took)
	return took[times/2], took[times*99/100]
}

// joules is what the processor packages have used, if the machine counts it.
func joules() (sum float64, ok bool) {
	zones, err := filepath.Glob("/sys/class/powercap/intel-rapl:*/energy_uj")
	if err != nil {
		return 0, false
	}
	for _, zone := range zones {
		if strings.Count(zone, ":") > 1 {
			continue // a part of another
		}
		micro, err := readNumber(zone)
		if err != nil {
			return 0, false
		}
		sum, ok = sum+micro/1e6, true
	}
	return sum, ok
}

const noJoules = "the machine offers no energy counter (/sys/class/powercap/intel-rapl)"

// ReadSessions reads what an earlier report wrote.
func ReadSessions(path string) (all []Session, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for text := range strings.Lines(string(raw)) {
		var s Session
		if json.Unmarshal([]byte(text), &s) != nil {
			break // the last one was cut off
		}
		// A session is written when it begins and again when it ends.
		if n := len(all); n > 0 && all[n-1].Begin.Equal(s.Begin) {
			all = all[:n-1]
		}
		all = append(all, s)
	}
	return all, nil
}

func readNumber(path string) (v float64, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(string(raw)), 64)
}
