package lab

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"coinop.dev/core/earn"
	"coinop.dev/core/journal"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/world/books"
)

const (
	// pastDays is over how many days past orders are spread, until now.
	pastDays     = 90
	pastServices = 20
	pastDevices  = 1000
	pastBuyers   = 5000
	pastGateway  = "past" // who made them: the one that is measured has a journal of its own
	pageTries    = 5
)

func booksURI(dir string) string {
	return "sqlite://" + filepath.ToSlash(filepath.Join(dir, "books.sqlite"))
}

// makePast files orders that are settled, as a gateway does that is very busy.
func makePast(ctx context.Context, t *doorTask) error {
	b, err := books.Open(ctx, booksURI(t.Dir), pastGateway)
	if err != nil {
		return err
	}
	from := step.Time(time.Now().UnixMilli()) - pastDays*step.Day
	events := make([]journal.Event, 0, books.MaxBatch)
	for i := 0; i < t.Past && err == nil; {
		for events = events[:0]; i < t.Past && len(events) < books.MaxBatch; i++ {
			at := from + step.Time(i)*(pastDays*step.Day)/step.Time(t.Past)
			o := earn.Order{
				State: "settled", Item: fmt.Sprintf("service%d", i*7%pastServices), Units: 1 + uint64(i%9), Due: 5 * money.Sat, Paid: 5 * money.Sat,
				Buyer: fmt.Sprintf("mqtt/buyer%d", i*13%pastBuyers), Device: fmt.Sprintf("device%d", i*31%pastDevices), At: at,
			}
			digest := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
			copy(o.ID[:], digest[:])
			data, err := json.Marshal(o)
			if err != nil {
				return err
			}
			events = append(events, journal.Event{N: uint64(i + 1), At: at, Type: journal.OrderSettled, Subject: o.ID.String(), Data: data})
		}
		_, err = b.Apply(ctx, events)
	}
	if fault := b.Close(); err == nil {
		err = fault
	}
	return err
}

// pastPages are what the console and the API are asked for.
func pastPages() []string {
	return []string{
		"/v1/orders", "/v1/orders?service=service3", "/v1/orders?device=device77", "/v1/orders?buyer=mqtt/buyer9", "/v1/orders?state=settled",
		"/v1/totals", "/v1/totals?by=hour", "/v1/statements/" + time.Now().UTC().Format("2006-01"), "/v1/status", "/v1/devices",
		"/console/", "/console/orders",
	}
}

// pages times pages, each by its first answer and some more.
func (b *doorBench) pages(ctx context.Context, r *DoorResult) error {
	for _, path := range pastPages() {
		p := PageTime{Path: path}
		var took []float64
		for range pageTries {
			begin := time.Now()
			q, err := http.NewRequestWithContext(ctx, http.MethodGet, b.at.Addrs[doorHTTP]+path, nil)
			if err != nil {
				return err
			}
			q.Header.Set("Authorization", "Bearer "+b.at.Token)
			resp, err := http.DefaultClient.Do(q)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if err != nil {
				return err
			}
			p.Status = resp.StatusCode
			took = append(took, time.Since(begin).Seconds()*1e3)
		}
		p.First = figure(took[0])
		slices.Sort(took)
		p.Ms, p.Max = figure(took[len(took)/2]), figure(took[len(took)-1])
		r.Pages = append(r.Pages, p)
	}
	return nil
}
