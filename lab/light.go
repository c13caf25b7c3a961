package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/header/headertest"
	"coinop.dev/core/step"
	"coinop.dev/lab/lightclient"
)

// MaxHeaders bounds a made-up chain, which the server keeps in memory.
const MaxHeaders = 4_000_000

// LightOptions say how long a chain the light client is given.
type LightOptions struct {
	Headers int
	Dir     string   // where its store is made; "": the system's temporary folder
	Command []string // that runs lightclient.Run in a process of its own
}

// Light is what a light client costs on a chain of so many headers, made by
// headertest: mainnet's rules, retargets among them, and the easiest work, so
// that a chain as long as Bitcoin's can be made here.
type Light struct {
	Headers int `json:"headers"`

	// Headers judged by every rule, on one processor, without network and disk.
	ValidateMs *float64 `json:"validate_ms"`
	NsHeader   *float64 `json:"ns_per_header"`

	Cold LightRun `json:"cold"` // from nothing, over TCP from one node
	Warm LightRun `json:"warm"` // the same again, with what the first run left on disk
}

// LightRun is one run of the client's process.
type LightRun struct {
	lightclient.Answer
	WireBytes *uint64 `json:"wire_bytes"` // that the node sent
	DiskBytes int64   `json:"disk_bytes"`
}

// MeasureLight runs the client twice against a node that serves the made-up
// chain.
func MeasureLight(ctx context.Context, o LightOptions, progress func(done uint64)) (r Light, err error) {
	if o.Headers < 1 || o.Headers > MaxHeaders {
		return r, fmt.Errorf("%d headers; it must be 1 to %d", o.Headers, MaxHeaders)
	}
	r.Headers = o.Headers
	params := headertest.Params()
	chain := make([]wire.BlockHeader, 0, o.Headers)
	for h := range headertest.Synthetic(params, o.Headers) {
		chain = append(chain, h)
		if len(chain)%10_000 == 0 {
			progress(uint64(len(chain)))
		}
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
	}
	took, err := validate(chain)
	if err != nil {
		return r, err
	}
	r.ValidateMs, r.NsHeader = figure(took.Seconds()*1e3), figure(float64(took.Nanoseconds())/float64(o.Headers))

	server, err := newHeaderServer(params, chain)
	if err != nil {
		return r, err
	}
	defer server.close()
	dir, err := os.MkdirTemp(o.Dir, "coinop-light-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	for _, run := range []*LightRun{&r.Cold, &r.Warm} {
		if *run, err = lightRun(ctx, o, server, dir); err != nil {
			return r, err
		}
	}
	return r, nil
}

// validate judges all headers on one processor, in the messages that a peer sends.
func validate(chain []wire.BlockHeader) (time.Duration, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	c := header.New(headertest.Params())
	now := step.Time(chain[len(chain)-1].Timestamp.UnixMilli())
	began := time.Now()
	for len(chain) > 0 {
		n := min(len(chain), wire.MaxBlockHeadersPerMsg)
		if _, _, err := c.Connect(chain[:n], now); err != nil {
			return 0, err
		}
		chain = chain[n:]
	}
	return time.Since(began), nil
}

func lightRun(ctx context.Context, o LightOptions, server *headerServer, dir string) (r LightRun, err error) {
	before := server.sent.Load()
	q, err := json.Marshal(lightclient.Question{Addr: server.addr(), Dir: dir, Headers: int32(o.Headers)})
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, o.Command[0], o.Command[1:]...)
	var out, problems bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(q), &out, &problems
	if err := cmd.Run(); err != nil {
		return r, fmt.Errorf("light client: %w: %s", err, bytes.TrimSpace(problems.Bytes()))
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return r, fmt.Errorf("light client: %w", err)
	}
	r.DiskBytes, err = size(dir)
	sent := server.sent.Load() - before
	r.WireBytes = &sent
	return r, err
}
