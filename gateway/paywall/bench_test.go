package paywall_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"syscall"
	"testing"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/gateway/paywall"
)

// cpu is the time this process has computed.
func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkProxied is a request through a proxy that charges nothing, and through
// one that draws it from a prepaid session. Client, proxy and upstream share the
// process, so only the differences mean something.
func BenchmarkProxied(b *testing.B) {
	m := newMarket(b, func(o *paywall.Options) { o.Challenges = 1_000_000 })
	weather, _ := m.shop.Service("weather")
	target, err := url.Parse(weather.From)
	must(b, err)
	plain := httptest.NewServer(&httputil.ReverseProxy{
		Transport: &http.Transport{MaxIdleConnsPerHost: 256},
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(target) },
	})
	defer plain.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
	run := func(name, url, auth string, status int) {
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(16)
			before := cpu()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r, err := http.NewRequest("GET", url, nil)
					if err != nil {
						b.Error(err)
						return
					}
					if auth != "" {
						r.Header.Set("Authorization", auth)
					}
					resp, err := client.Do(r)
					if err != nil {
						b.Error(err)
						return
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if resp.StatusCode != status && resp.StatusCode != 429 {
						b.Errorf("status %d", resp.StatusCode)
						return
					}
				}
			})
			b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-µs/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
		})
	}
	run("plain", plain.URL, "", 200)
	receipt, _ := m.session("/weather/", "90000")
	run("session with a receipt", m.url+"/weather/", receipt, 200)
	_, _, _, _, big := m.do("GET", "/weather/", paywall.HeaderUnits, "90000").offers()
	r, err := m.pay(b.Context(), money.Order{To: "lightning:" + big.Invoice})
	must(b, err)
	run("session with a preimage", m.url+"/weather/", big.Credential([32]byte(r.Proof)), 200)
	m.wall.Unlimited()
	run("challenge", m.url+"/weather/", "", 402)
}
