package pebble

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// The sizes keep the store to a few MiB of a device's memory. BenchmarkMillion
// chose them: beside pebble's own they save 13 MiB and a tenth of the written
// bytes, and cost a fifth more syncs. What is not set is pebble's own. There is
// no Bloom filter, because cores read at their start, by Scan.
const (
	// memTable is how much is kept in memory before it is written to a table,
	// and two of them exist at once. Twice that costs 4 MiB and saves up to a
	// sixth of the written bytes.
	memTable = 1 << 20
	// cacheSize holds blocks for reading, which is rare.
	cacheSize = 1 << 20
	// openFiles bounds the tables open at once.
	openFiles = 32
	// baseSize is the size of the first sorted level: four memtables, as many
	// as are merged into it at once. Larger ones are rewritten for little.
	baseSize = 4 << 20
	// maxManifest bounds the list of tables, which is otherwise 128 MB.
	maxManifest = 1 << 20

	// MinMemory and MaxMemory bound what a store may be given instead, in MiB, where
	// there are far more records than a device has, and they are read: a ledger's.
	MinMemory = 8
	MaxMemory = 4096
)

// enlarge gives the store about so many MiB: half of them to read, a quarter for each
// of the two memtables.
func enlarge(o *pebble.Options, mib int) {
	o.CacheSize = int64(mib) << 20 / 2
	o.MemTableSize = uint64(mib) << 20 / 4
	o.LBaseMaxBytes = 4 * int64(o.MemTableSize)
	o.MaxOpenFiles = 4 * openFiles
}

func options(d *disk) *pebble.Options {
	o := &pebble.Options{
		FS:                         d,
		Logger:                     logger{d},
		EventListener:              listener(d),
		FormatMajorVersion:         pebble.FormatValueSeparation,
		MemTableSize:               memTable,
		CacheSize:                  cacheSize,
		MaxOpenFiles:               openFiles,
		LBaseMaxBytes:              baseSize,
		MaxManifestFileSize:        maxManifest,
		CompactionConcurrencyRange: func() (lower, upper int) { return 1, 1 },
	}
	o.Experimental.FileCacheShards = 1
	// Zstandard would save 3 % of the written bytes, where half of a value is
	// random, for 4 % more processor time and 1.6 MiB.
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionFastest })
	return o
}

// listener hears of trouble that is not an error of a write, such as a table
// that cannot be read back.
func listener(d *disk) *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) { d.fail(err) },
		// A Get may be the one that found it, and it must return.
		DataCorruption: func(info pebble.DataCorruptionInfo) { d.note(info.Details) },
	}
}

// logger drops what pebble has to say and hears only what it cannot survive.
type logger struct{ disk *disk }

func (logger) Infof(string, ...any)  {}
func (logger) Errorf(string, ...any) {}

// Fatalf must not end the process: the node has other stores, and money in them.
func (l logger) Fatalf(format string, args ...any) { l.disk.fail(fmt.Errorf(format, args...)) }
