package data

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"coinop.dev/core/sealed"
	"coinop.dev/core/step"
)

const (
	// MaxReading bounds one reading, in bytes.
	MaxReading = sealed.MaxPlain - saltSize
	// MaxStock bounds the readings, in bytes, that a source offers at a time: those
	// of one stream.
	MaxStock = 1 << 20
	// MaxFiles bounds the files that a folder is looked through for.
	MaxFiles = 65_536
	// freshFor is how long a source that takes work is not asked again: strangers
	// who ask for offers do not run the sensor.
	freshFor = time.Second
)

// newest keeps the last readings that fit a stream.
func newest(all []Reading, most int) []Reading {
	size, from := 0, len(all)
	for from > 0 && len(all)-from < min(most, sealed.MaxChunks) && size+len(all[from-1].Data) <= MaxStock {
		from--
		size += len(all[from].Data)
	}
	return all[from:]
}

// cached asks a source that takes work, and remembers the answer for freshFor.
type cached struct {
	read func(context.Context) ([]Reading, error)

	mu   sync.Mutex
	at   time.Time
	have []Reading
}

func (c *cached) Readings(ctx context.Context, most int) ([]Reading, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.have == nil || time.Since(c.at) > freshFor {
		all, err := c.read(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range all {
			if len(r.Data) > MaxReading {
				return nil, fmt.Errorf("a reading has %d bytes; the limit is %d", len(r.Data), MaxReading)
			}
		}
		c.have, c.at = newest(all, sealed.MaxChunks), time.Now()
	}
	return newest(c.have, most), nil
}

// Func is a source that is measured when somebody asks.
func Func(read func(context.Context) ([]byte, error)) Source {
	return &cached{read: func(ctx context.Context) ([]Reading, error) {
		b, err := read(ctx)
		if err != nil {
			return nil, err
		}
		return []Reading{{step.Time(time.Now().UnixMilli()), b}}, nil
	}}
}

// Lines is a file with a reading in each line, the newest last. A line that is not
// ended yet is not a reading yet. Only the last MaxStock bytes are looked at.
func Lines(path string) Source {
	return &cached{read: func(context.Context) ([]Reading, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		stat, err := f.Stat()
		if err != nil {
			return nil, err
		}
		from := max(0, stat.Size()-MaxStock)
		b, err := io.ReadAll(io.NewSectionReader(f, from, MaxStock))
		if err != nil {
			return nil, err
		}
		b = b[:bytes.LastIndexByte(b, '\n')+1]
		if from > 0 {
			b = b[bytes.IndexByte(b, '\n')+1:] // its beginning is cut off
		}
		var all []Reading
		for line := range bytes.Lines(b) {
			if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
				all = append(all, Reading{step.Time(stat.ModTime().UnixMilli()), line})
			}
		}
		return all, nil
	}}
}

// Files is a folder with a reading in each file, the newest the last by name. Files
// whose names begin with a dot are not there yet.
func Files(dir string) Source {
	return &cached{read: func(context.Context) ([]Reading, error) {
		d, err := os.Open(dir)
		if err != nil {
			return nil, err
		}
		defer d.Close()
		names, err := d.Readdirnames(MaxFiles + 1)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if len(names) > MaxFiles {
			return nil, fmt.Errorf("%s has more than %d files; move old ones away", dir, MaxFiles)
		}
		names = slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, ".") })
		slices.Sort(names)
		var all []Reading
		for _, name := range names[max(0, len(names)-sealed.MaxChunks):] {
			r, err := readFile(filepath.Join(dir, name))
			if err != nil {
				return nil, err
			}
			all = newest(append(all, r), sealed.MaxChunks)
		}
		return all, nil
	}}
}

func readFile(path string) (r Reading, err error) {
	f, err := os.Open(path)
	if err != nil {
		return r, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return r, err
	}
	r.At = step.Time(stat.ModTime().UnixMilli())
	r.Data, err = io.ReadAll(io.LimitReader(f, MaxReading+1))
	return r, err
}

// Devices remember what devices have published last (MQTT's event/up and
// event/meter).
type Devices interface {
	// Latest returns nil if the device has published nothing yet. The caller does
	// not change it.
	Latest(name string) (data []byte, at time.Time)
}

// Device is what one device has published last.
func Device(d Devices, name string) Source {
	return &device{Devices: d, name: name}
}

type device struct {
	Devices
	name string
	feed Feed
}

// Readings keeps what it has seen, so that a stream can have more than one.
func (d *device) Readings(ctx context.Context, most int) ([]Reading, error) {
	b, at := d.Latest(d.name)
	if b != nil {
		if err := d.feed.Put(Reading{step.Time(at.UnixMilli()), b}); err != nil {
			return nil, err
		}
	}
	return d.feed.Readings(ctx, most)
}

// A Feed is a source that somebody fills. It keeps the newest readings, as many as
// fit one stream. The zero Feed is empty and ready.
type Feed struct {
	mu  sync.Mutex
	all []Reading
}

// Put adds a reading, unless it is not newer than the last one and the same.
func (f *Feed) Put(r Reading) error {
	if len(r.Data) > MaxReading {
		return fmt.Errorf("a reading has %d bytes; the limit is %d", len(r.Data), MaxReading)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.all); n > 0 && r.At <= f.all[n-1].At && bytes.Equal(r.Data, f.all[n-1].Data) {
		return nil
	}
	f.all = newest(append(f.all, r), sealed.MaxChunks)
	return nil
}

// Readings are the newest ones.
func (f *Feed) Readings(_ context.Context, most int) ([]Reading, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(newest(f.all, most)), nil
}
