package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// A Sample is one run: a line of the samples' file.
type Sample struct {
	Workload string `json:"workload"`
	Rail     string `json:"rail"`
	Run      int    `json:"run"` // from 1
	// Plan is the digest of all that decides the result, the computer aside, and Env
	// that of the computer and the program.
	Plan  string    `json:"plan"`
	Env   string    `json:"env"`
	Seed  uint64    `json:"seed"`
	At    time.Time `json:"at"`
	TookS float64   `json:"took_s"`

	Figures map[string]float64 `json:"figures,omitempty"`
	Missing map[string]string  `json:"missing,omitempty"`
	Error   string             `json:"error,omitempty"` // it failed, and has no figures
	Result  json.RawMessage    `json:"result,omitempty"`

	line int // in the file, from 1
}

func (s *Sample) key() string { return fmt.Sprintf("%s/%s/%d/%s", s.Workload, s.Rail, s.Run, s.Plan) }

// digest names a value by its JSON.
func digest(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // a plan's options are plain data
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:6])
}

// maxSamples bounds a file: more are not one report's.
const maxSamples = 100_000

// ReadSamples reads a file of samples. A last line without an end is that of a run
// that was cut off, and left out. A file that is not there has none.
func ReadSamples(path string) (all []Sample, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	raw = raw[:bytes.LastIndexByte(raw, '\n')+1]
	line := 0
	for text := range bytes.Lines(raw) {
		if line++; line > maxSamples {
			return nil, fmt.Errorf("%s has more than %d samples", path, maxSamples)
		}
		var s Sample
		if err := json.Unmarshal(text, &s); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, line, err)
		}
		s.line = line
		all = append(all, s)
	}
	return all, nil
}

// lines is a file that grows by lines of JSON.
type lines struct{ f *os.File }

// openLines opens a file to append to, without what was cut off at its end.
func openLines(path string) (*lines, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(path)
	if err == nil {
		end := int64(bytes.LastIndexByte(raw, '\n') + 1)
		if err = f.Truncate(end); err == nil {
			_, err = f.Seek(end, 0)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &lines{f}, nil
}

// add appends a line, and has it on disk: a run may have taken minutes.
func (l *lines) add(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := l.f.Write(append(raw, '\n')); err != nil {
		return err
	}
	return l.f.Sync()
}

func (l *lines) close() error { return l.f.Close() }
