package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// How a finding is.
const (
	fine = "ok"
	odd  = "warning" // it works, and somebody should look at it
	bad  = "wrong"
)

// A finding is one thing that was looked at.
type finding struct {
	What   string `json:"what"`
	State  string `json:"state"`
	Say    string `json:"say"`
	Remedy string `json:"remedy,omitempty"` // what to do about it
}

// A doctor looks at a machine from outside: its files, its neighbours, and the
// machine itself if it runs.
type doctor struct {
	Config
	u       *ui
	running *running // nil if no machine answers
	status  machineStatus
	started bool // a machine holds the store, though it may not answer
}

const (
	// doctorTime bounds the whole look, and dialTime one neighbour.
	doctorTime = 4500 * time.Millisecond
	dialTime   = 2 * time.Second
	// probeEvery is how often a probe asks again, while it may.
	probeEvery = 50 * time.Millisecond
)

func doctorCommand(u *ui) *cobra.Command {
	var path string
	var probe bool
	var wait time.Duration
	c := &cobra.Command{
		Use: "doctor", Short: "Say why a machine cannot be paid or cannot sell, and what to do about it", Args: noArgs,
		Long: `Looks at the config, the files and who may read them, the clock, the disk, ports, the store, the
chain, the books, the broker, certificates, devices and receivers; and if coinop serve runs, asks it
whether it can be paid, and for a price of each thing that it sells. Nothing is changed.

With --probe it only asks whether the machine is ready, for containers and scripts.`,
		Example: "  coinop doctor -c /etc/coinop/coinop.toml\n  coinop doctor --probe --wait 10s && echo it sells",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if probe {
				return u.probe(cmd.Context(), path, wait)
			}
			return u.doctor(cmd.Context(), path)
		},
	}
	configFlag(c, &path)
	c.Flags().BoolVar(&probe, "probe", false, "only ask whether the machine is ready")
	c.Flags().DurationVar(&wait, "wait", 0, "with --probe: ask again for so long until it is")
	return c
}

func (u *ui) doctor(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, doctorTime)
	defer cancel()
	d := &doctor{u: u}
	var all []finding
	config, err := readConfig(path)
	if err != nil {
		all = []finding{{"config", bad, err.Error(), "coinop config schema --toml shows every key, with an example"}}
	} else {
		d.Config = config
		all = d.look(ctx)
	}
	wrong := 0
	for _, f := range all {
		if f.State == bad {
			wrong++
		}
	}
	err = u.show(map[string]any{"ok": wrong == 0, "running": d.running != nil, "findings": all}, func(w io.Writer) {
		for _, f := range all {
			fmt.Fprintf(w, "%s %-9s %s\n", map[string]string{fine: "  ok ", odd: "  !  ", bad: "WRONG"}[f.State], f.What, clean(f.Say))
			if f.State != fine && f.Remedy != "" {
				fmt.Fprintf(w, "                %s\n", clean(f.Remedy))
			}
		}
	})
	switch {
	case err != nil:
		return err
	case wrong == 1:
		return exit{errors.New("one thing is wrong"), exitFailed}
	case wrong > 1:
		return exit{fmt.Errorf("%d things are wrong", wrong), exitFailed}
	}
	return nil
}

// look does all checks; those that wait for others at once.
func (d *doctor) look(ctx context.Context) []finding {
	d.find(ctx)
	checks := []func(context.Context) []finding{
		d.checkConfig, d.checkEnvironment, d.checkFiles, d.checkClock, d.checkDisk, d.checkRunning, d.checkStore, d.checkPorts,
		d.checkChain, d.checkRails, d.checkBooks, d.checkBroker, d.checkTLS, d.checkServices, d.checkDevices, d.checkWebhooks,
	}
	found := make([][]finding, len(checks))
	var under sync.WaitGroup
	for i, check := range checks {
		under.Go(func() { found[i] = check(ctx) })
	}
	under.Wait()
	return slices.Concat(found...)
}

// clean keeps what a device or a buyer has sent from moving a terminal's cursor.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '·'
		}
		return r
	}, text)
}

// reach dials what a machine must reach. target is for people.
func reach(ctx context.Context, what, target, address, remedy string) finding {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	network := "tcp"
	if path, unix := strings.CutPrefix(address, "unix:"); unix {
		network, address = "unix", path
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return finding{what, bad, fmt.Sprintf("%s is not reached: %v", target, err), remedy}
	}
	c.Close()
	return finding{What: what, State: fine, Say: target + " is reached"}
}

// probe asks whether the machine is ready.
func (u *ui) probe(ctx context.Context, path string, wait time.Duration) error {
	config, err := readConfig(path)
	if err != nil {
		return err
	}
	if config.Metrics == "" {
		return usage{errors.New("the config has no metrics address, where a machine says whether it is ready; set metrics = \"127.0.0.1:9402\"")}
	}
	ctx, cancel := context.WithTimeout(ctx, max(wait, doctorTime))
	defer cancel()
	end := time.Now().Add(wait)
	for {
		if err = config.isReady(ctx); err == nil || time.Now().After(end) || ctx.Err() != nil {
			break
		}
		time.Sleep(probeEvery)
	}
	if err != nil {
		return err
	}
	return u.show(map[string]any{"ready": true}, func(w io.Writer) { fmt.Fprintf(w, "%s is ready\n", config.Name) })
}

// isReady asks /readyz.
func (c *Config) isReady(ctx context.Context) error {
	base, client := "http://"+c.Metrics, &http.Client{Timeout: dialTime}
	if path, unix := strings.CutPrefix(c.Metrics, "unix:"); unix {
		base = "http://coinop"
		client.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return exit{fmt.Errorf("no machine answers at %s: %w", c.Metrics, err), exitConnect}
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		raw, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		return fmt.Errorf("the machine is not ready: %s", strings.TrimSpace(string(raw)))
	}
	return nil
}

// only returns the findings, or one that all is well.
func only(what, well string, all ...finding) []finding {
	if len(all) > 0 {
		return all
	}
	if well == "" {
		return nil
	}
	return []finding{{What: what, State: fine, Say: well}}
}

// exists reports whether there is a file; what cannot be looked at is there.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}
