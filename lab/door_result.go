package lab

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"text/tabwriter"
	"time"
)

// A DoorResult is one run at a gateway's door. A payment at mqtt is a coin or a
// ticket that was stamped, at http a request that was drawn from a session and
// served, at coap a reading that was. A figure that could not be had is nil.
type DoorResult struct {
	Door    string `json:"door"`
	Rail    string `json:"rail"`
	Store   string `json:"store"`
	Devices int    `json:"devices"`
	DTLS    bool   `json:"dtls,omitempty"`
	Past    int    `json:"past,omitempty"`
	// Verify: the devices have checked the signature of one stamp in so many.
	Verify int     `json:"verify_one_in"`
	Memory int     `json:"memory_limit_mib,omitempty"` // of the gateway, soft
	ForS   float64 `json:"for_s"`
	// Load is the computer's load average of the last minute when the run began:
	// what others take of it.
	Load *float64 `json:"load_average"`

	OfferedPs *float64 `json:"offered_per_s"` // nil where visitors come as fast as they are served
	Pps       *float64 `json:"pps"`
	P50Ms     *float64 `json:"p50_ms"` // from publishing until the gateway's stamp is back
	P95Ms     *float64 `json:"p95_ms"`
	P99Ms     *float64 `json:"p99_ms"`
	MaxMs     *float64 `json:"max_ms"`
	// LateMs is how much later than planned 99 of 100 payments were published: what
	// the visitors' process lacked of the processor.
	LateMs     *float64 `json:"load_late_p99_ms"`
	Refused    *uint64  `json:"refused"`
	Lost       *uint64  `json:"lost"`
	Reconnects *uint64  `json:"reconnects"`
	// Codes are the answers at http, by status.
	Codes map[string]uint64 `json:"codes,omitempty"`

	GatewayCPUMs *float64 `json:"gateway_cpu_ms_per_payment"`
	LoadCPUMs    *float64 `json:"load_cpu_ms_per_payment"`
	GatewayCPUs  *float64 `json:"gateway_processors"` // busy, of GOMAXPROCS
	LoadCPUs     *float64 `json:"load_processors"`

	// Memory of the gateway: before anybody came, with all connected and nothing
	// paid, while paying, at its peak, and after it with all garbage collected.
	StartRSSMiB  *float64 `json:"start_rss_mib"`
	IdleRSSMiB   *float64 `json:"idle_rss_mib"`
	RSSMiB       *float64 `json:"rss_mib"`
	PeakRSSMiB   *float64 `json:"peak_rss_mib"`
	RestedRSSMiB *float64 `json:"rested_rss_mib"`
	// HeapMiB and StackMiB are of the last: what Go's runtime has in objects and in
	// stacks. The rest is the program, its store, and what is free.
	HeapMiB  *float64 `json:"rested_heap_mib"`
	StackMiB *float64 `json:"rested_stack_mib"`
	// DeviceKiB is what the gateway's peak is above its start, for each device, and
	// RestedDeviceKiB the same at rest.
	DeviceKiB       *float64 `json:"rss_kib_per_device"`
	RestedDeviceKiB *float64 `json:"rested_rss_kib_per_device"`

	DiskBytes  *float64 `json:"disk_bytes_per_payment"`  // of the gateway, as the kernel accounts them
	StoreBytes *float64 `json:"store_bytes_per_payment"` // as its store wrote them
	Fsyncs     *float64 `json:"fsyncs_per_payment"`      // of its store
	WireBytes  *float64 `json:"wire_bytes_per_payment"`  // both directions, inside TCP or UDP
	PerRound   *float64 `json:"gateway_events_per_commit"`
	BooksLag   *uint64  `json:"books_lag_events"` // at the end, while still paying

	ConnectMs *float64 `json:"connect_ms"` // until the last device was connected, and had a channel proposed
	ChannelMs *float64 `json:"channels_ms"`
	// StartMs is from starting the gateway's process until its doors are open, OpenMs
	// without the process itself.
	StartMs *float64 `json:"start_ms"`
	OpenMs  *float64 `json:"open_ms"`

	// Conserved: what the devices have stamps for is what the till has.
	Conserved *bool `json:"conserved"`

	HTTP  *DoorHTTP  `json:"http,omitempty"`
	Pages []PageTime `json:"pages,omitempty"`
}

// DoorHTTP is what only the paywall has.
type DoorHTTP struct {
	PlainPps *float64 `json:"plain_per_s"` // the same requests by a proxy of the same process that charges nothing
	PlainMs  *float64 `json:"plain_cpu_ms_per_request"`
	BeyondMs *float64 `json:"beyond_cpu_ms_per_request"`
	Ratio    *float64 `json:"cpu_ratio"`
	// Flood is of requests without money, alone and then beside those that pay.
	FloodPs         *float64          `json:"flood_per_s"`
	FloodCodes      map[string]uint64 `json:"flood_codes,omitempty"`
	FloodCPUMs      *float64          `json:"flood_cpu_ms_per_request"`
	FloodRSSKiB     *float64          `json:"flood_rss_growth_kib"` // at rest, second flood over first
	FloodStoreBytes *float64          `json:"flood_store_bytes"`
	FloodFileBytes  *float64          `json:"flood_file_bytes"` // more in the gateway's folder
	BesidePps       *float64          `json:"beside_flood_per_s"`
	BesideP99Ms     *float64          `json:"beside_flood_p99_ms"`
}

// A PageTime is how long a page of the API or the console takes with the past in
// the books.
type PageTime struct {
	Path   string   `json:"path"`
	Status int      `json:"status"`
	Ms     *float64 `json:"ms"`       // median
	First  *float64 `json:"first_ms"` // the first time
	Max    *float64 `json:"max_ms"`
}

// measured fills in what a phase took.
func (r *DoorResult) measured(p *doorPhase, before, after *doorAt, load bool) {
	n, took := float64(p.Done), p.Took.Seconds()
	if n == 0 {
		return
	}
	ms := func(d time.Duration) *float64 { return figure(d.Seconds() * 1e3) }
	r.Pps, r.P50Ms, r.P95Ms, r.P99Ms, r.MaxMs = figure(n/took), ms(p.P50), ms(p.P95), ms(p.P99), ms(p.Max)
	r.Refused, r.Lost, r.Reconnects = &p.Refused, &p.Lost, &p.Reconnects
	r.Codes = p.Codes
	if load {
		r.OfferedPs, r.LateMs = figure(float64(p.Offered)/took), ms(p.Late)
	}
	each := func(a, b *doorCounts, of func(*doorCounts) *float64) *float64 {
		return scaled(difference(of(b), of(a)), 1/n)
	}
	cpu := func(c *doorCounts) *float64 { return scaled(c.cpu(), 1e-3) }
	r.GatewayCPUMs, r.LoadCPUMs = each(&before.gate, &after.gate, cpu), each(&before.load, &after.load, cpu)
	r.GatewayCPUs, r.LoadCPUs = scaled(r.GatewayCPUMs, n/took*1e-3), scaled(r.LoadCPUMs, n/took*1e-3)
	r.DiskBytes = each(&before.gate, &after.gate, func(c *doorCounts) *float64 { return whole(c.DiskBytes) })
	r.StoreBytes = each(&before.gate, &after.gate, func(c *doorCounts) *float64 { return c.stored(true) })
	r.Fsyncs = each(&before.gate, &after.gate, func(c *doorCounts) *float64 { return c.stored(false) })
	if sent := after.load.Wire.Sent - before.load.Wire.Sent + after.load.Wire.Received - before.load.Wire.Received; sent > 0 {
		r.WireBytes = figure(float64(sent) / n)
	}
	if rounds := after.gate.Rounds - before.gate.Rounds; rounds > 0 {
		r.PerRound = figure(float64(after.gate.Events-before.gate.Events) / float64(rounds))
	}
	r.RSSMiB, r.PeakRSSMiB, r.BooksLag = mib(after.gate.RSS), mib(after.gate.Peak), after.gate.BooksLag
	r.DeviceKiB = scaled(difference(r.PeakRSSMiB, r.StartRSSMiB), 1024/float64(r.Devices))
}

// rested fills in what is left when all is quiet.
func (r *DoorResult) rested(at *doorAt) {
	r.RestedRSSMiB, r.HeapMiB, r.StackMiB = mib(at.gate.RSS), mib(at.gate.Heap), mib(at.gate.Stacks)
	r.RestedDeviceKiB = scaled(difference(r.RestedRSSMiB, r.StartRSSMiB), 1024/float64(r.Devices))
}

// loadAverage is that of the last minute, where the kernel says so.
func loadAverage() *float64 {
	f, err := os.Open("/proc/loadavg")
	if err != nil {
		return nil
	}
	defer f.Close()
	var one float64
	if _, err := fmt.Fscan(bufio.NewReader(f), &one); err != nil {
		return nil
	}
	return &one
}

// doorRows are the lines of the table, with the targets of the design.
var doorRows = []struct {
	name, format, target string
	of                   func(*DoorResult) *float64
}{
	{"offered/s", "%.0f", "", func(r *DoorResult) *float64 { return r.OfferedPs }},
	{"payments/s", "%.0f", "", func(r *DoorResult) *float64 { return r.Pps }},
	{"p50 ms", "%.2f", "", func(r *DoorResult) *float64 { return r.P50Ms }},
	{"p95 ms", "%.2f", "", func(r *DoorResult) *float64 { return r.P95Ms }},
	{"p99 ms", "%.2f", "mqtt ≤ 1000", func(r *DoorResult) *float64 { return r.P99Ms }},
	{"max ms", "%.2f", "", func(r *DoorResult) *float64 { return r.MaxMs }},
	{"published late p99 ms", "%.2f", "", func(r *DoorResult) *float64 { return r.LateMs }},
	{"gateway CPU ms", "%.4f", "", func(r *DoorResult) *float64 { return r.GatewayCPUMs }},
	{"load CPU ms", "%.4f", "", func(r *DoorResult) *float64 { return r.LoadCPUMs }},
	{"gateway processors", "%.2f", "", func(r *DoorResult) *float64 { return r.GatewayCPUs }},
	{"load processors", "%.2f", "", func(r *DoorResult) *float64 { return r.LoadCPUs }},
	{"gateway RSS MiB (start)", "%.1f", "", func(r *DoorResult) *float64 { return r.StartRSSMiB }},
	{"gateway RSS MiB (idle)", "%.1f", "", func(r *DoorResult) *float64 { return r.IdleRSSMiB }},
	{"gateway RSS MiB (peak)", "%.1f", "≤ 400 at 10,000", func(r *DoorResult) *float64 { return r.PeakRSSMiB }},
	{"gateway RSS MiB (rested)", "%.1f", "", func(r *DoorResult) *float64 { return r.RestedRSSMiB }},
	{"of it objects", "%.1f", "", func(r *DoorResult) *float64 { return r.HeapMiB }},
	{"of it stacks", "%.1f", "", func(r *DoorResult) *float64 { return r.StackMiB }},
	{"RSS KiB per device (peak)", "%.1f", "flat", func(r *DoorResult) *float64 { return r.DeviceKiB }},
	{"RSS KiB per device (rested)", "%.1f", "flat", func(r *DoorResult) *float64 { return r.RestedDeviceKiB }},
	{"disk bytes (kernel)", "%.0f", "", func(r *DoorResult) *float64 { return r.DiskBytes }},
	{"disk bytes (store)", "%.0f", "", func(r *DoorResult) *float64 { return r.StoreBytes }},
	{"fsyncs", "%.5f", "", func(r *DoorResult) *float64 { return r.Fsyncs }},
	{"wire bytes", "%.1f", "", func(r *DoorResult) *float64 { return r.WireBytes }},
	{"events per commit", "%.1f", "", func(r *DoorResult) *float64 { return r.PerRound }},
	{"refused", "%.0f", "", func(r *DoorResult) *float64 { return whole(r.Refused) }},
	{"lost", "%.0f", "", func(r *DoorResult) *float64 { return whole(r.Lost) }},
	{"reconnects", "%.0f", "", func(r *DoorResult) *float64 { return whole(r.Reconnects) }},
	{"books lag, events", "%.0f", "", func(r *DoorResult) *float64 { return whole(r.BooksLag) }},
	{"connect ms", "%.0f", "", func(r *DoorResult) *float64 { return r.ConnectMs }},
	{"open channels ms", "%.0f", "", func(r *DoorResult) *float64 { return r.ChannelMs }},
	{"start ms", "%.0f", "≤ 1000", func(r *DoorResult) *float64 { return r.StartMs }},
	{"load average before", "%.2f", "", func(r *DoorResult) *float64 { return r.Load }},
}

var httpRows = []struct {
	name, format, target string
	of                   func(*DoorHTTP) *float64
}{
	{"proxied without paywall/s", "%.0f", "", func(h *DoorHTTP) *float64 { return h.PlainPps }},
	{"its gateway CPU ms", "%.4f", "", func(h *DoorHTTP) *float64 { return h.PlainMs }},
	{"paid beyond it, CPU ms", "%.4f", "≤ 0.5", func(h *DoorHTTP) *float64 { return h.BeyondMs }},
	{"paid / proxied, CPU", "%.2f", "", func(h *DoorHTTP) *float64 { return h.Ratio }},
	{"flood: requests/s", "%.0f", "", func(h *DoorHTTP) *float64 { return h.FloodPs }},
	{"flood: CPU ms", "%.4f", "", func(h *DoorHTTP) *float64 { return h.FloodCPUMs }},
	{"flood: RSS KiB more", "%.0f", "0", func(h *DoorHTTP) *float64 { return h.FloodRSSKiB }},
	{"flood: store bytes", "%.0f", "0", func(h *DoorHTTP) *float64 { return h.FloodStoreBytes }},
	{"flood: bytes of files", "%.0f", "0", func(h *DoorHTTP) *float64 { return h.FloodFileBytes }},
	{"beside the flood: paid/s", "%.0f", "", func(h *DoorHTTP) *float64 { return h.BesidePps }},
	{"beside the flood: p99 ms", "%.2f", "", func(h *DoorHTTP) *float64 { return h.BesideP99Ms }},
}

// WriteDoorTable prints runs of one door for people, a column each.
func WriteDoorTable(w io.Writer, runs []DoorResult) {
	if len(runs) == 0 {
		return
	}
	first := &runs[0]
	fmt.Fprintf(w, "door %s, rail %s, store %s: %.0f s each, per payment unless it says otherwise\n", first.Door, first.Rail, first.Store, first.ForS)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "devices")
	for i := range runs {
		fmt.Fprintf(t, "\t%d", runs[i].Devices)
	}
	fmt.Fprintln(t, "\t")
	for _, row := range doorRows {
		fmt.Fprint(t, row.name)
		for i := range runs {
			fmt.Fprint(t, "\t", text(row.of(&runs[i]), row.format))
		}
		fmt.Fprintln(t, "\t", row.target)
	}
	if first.HTTP != nil {
		for _, row := range httpRows {
			fmt.Fprint(t, row.name)
			for i := range runs {
				fmt.Fprint(t, "\t", text(row.of(runs[i].HTTP), row.format))
			}
			fmt.Fprintln(t, "\t", row.target)
		}
	}
	fmt.Fprint(t, "conserved")
	for i := range runs {
		said := "–"
		if c := runs[i].Conserved; c != nil {
			said = fmt.Sprint(*c)
		}
		fmt.Fprint(t, "\t", said)
	}
	fmt.Fprintln(t, "\t")
	for _, p := range first.Pages {
		fmt.Fprintf(t, "%s ms\t%s\t ≤ 100\n", p.Path, text(p.Max, "%.1f"))
	}
	t.Flush()
}

// WriteDoorBench prints a run as a line that benchstat reads. A figure that could
// not be had is left out.
func WriteDoorBench(w io.Writer, r *DoorResult) {
	n := uint64(0)
	if r.Pps != nil {
		n = uint64(*r.Pps * r.ForS)
	}
	fmt.Fprintf(w, "BenchmarkDoor/door=%s/rail=%s/store=%s/devices=%d-%d\t%d", r.Door, r.Rail, r.Store, r.Devices, runtime.GOMAXPROCS(0), n)
	var beyond *float64
	if r.HTTP != nil {
		beyond = scaled(r.HTTP.BeyondMs, 1e6)
	}
	for _, f := range []struct {
		v    *float64
		unit string
	}{
		{quotient(figure(float64(time.Second)), r.Pps), "ns/op"},
		{scaled(r.P50Ms, 1e6), "p50-ns"}, {scaled(r.P99Ms, 1e6), "p99-ns"},
		{scaled(r.GatewayCPUMs, 1e6), "gateway-cpu-ns/op"}, {scaled(r.LoadCPUMs, 1e6), "load-cpu-ns/op"}, {beyond, "beyond-cpu-ns/op"},
		{r.DiskBytes, "diskbytes/op"}, {r.Fsyncs, "fsyncs/op"}, {r.WireBytes, "wirebytes/op"},
		{r.PeakRSSMiB, "gateway-MiB"}, {r.DeviceKiB, "KiB/device"},
	} {
		if f.v != nil {
			fmt.Fprintf(w, "\t%.6g %s", *f.v, f.unit)
		}
	}
	fmt.Fprintln(w)
}
