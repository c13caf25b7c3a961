package daemon

import (
	"context"
	"fmt"
	"strings"
	"time"

	"coinop.dev/core/earn"
	"coinop.dev/gateway/data"
	"coinop.dev/till"
)

// openData sells what services name as "data:…":
//
//	data:lines:/path/file   the lines of a file
//	data:files:/path/folder the files of a folder, newest last
//	data:device:NAME        what a device of the fleet measures, NAME or NAME/KIND
//	data:NAME               what is built in, or was given to Open
func (d *Daemon) openData(ctx context.Context, built map[string]till.Device) error {
	sources := map[string]data.Source{}
	for _, v := range d.Machine.Shop.Services() {
		from, ok := strings.CutPrefix(v.From, "data:")
		if !ok {
			continue
		}
		kind, rest, _ := strings.Cut(from, ":")
		switch read := built[from]; {
		case kind == "lines" && rest != "":
			sources[from] = data.Lines(rest)
		case kind == "files" && rest != "":
			sources[from] = data.Files(rest)
		case kind == "device" && rest != "":
			sources[from] = data.Device(&d.readings, rest)
		case read != nil:
			sources[from] = data.Func(func(ctx context.Context) ([]byte, error) {
				return read(ctx, earn.Deliver{Item: v.Name, Units: 1})
			})
		default:
			return fmt.Errorf("service %s is sold from %q: there is data:lines:FILE, data:files:FOLDER, data:device:NAME, and what is built in", v.Name, v.From)
		}
	}
	if len(sources) == 0 {
		return nil
	}
	seller, err := data.Open(ctx, data.Options{Shop: d.Machine.Shop, Rails: d.Machine.Rails, Sources: sources})
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	d.data = seller.Handler()
	return nil
}

// Latest is a device's last reading, for data.Device.
func (r *readings) Latest(name string) ([]byte, time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.last[name]
	return last.data, last.at
}
