package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"coinop.dev/core/step"
	"coinop.dev/world/books"
)

type (
	span struct {
		From step.Time `query:"from_ms" doc:"default: 30 days ago"`
		To   step.Time `query:"to_ms" doc:"default: now"`
	}
	totals struct {
		Points   []books.Point `json:"points"`
		Services []books.Named `json:"services"`
		Devices  []books.Named `json:"devices"`
	}
)

// of fills in what is not said.
func (s span) of(now step.Time) (from, to step.Time) {
	from, to = s.From, s.To
	if to == 0 {
		to = now + 1
	}
	if from == 0 {
		from = to - 30*step.Day
	}
	return from, to
}

// keeping is what is asked of the past.
func (a *API) keeping() {
	huma.Register(a.huma, op("GET", "/v1/totals", Read, "Revenue and spend over time, and by service and device"), func(ctx context.Context, in *struct {
		span
		By string `query:"by" enum:"hour,day" default:"day"`
	}) (*body[totals], error) {
		from, to := in.of(a.Machine.Engine.Host.Now())
		bucket := step.Day
		if in.By == "hour" {
			bucket = step.Hour
		}
		var t totals
		var err error
		if t.Points, err = a.Books.Totals(ctx, from, to, bucket); err == nil {
			if t.Services, err = a.Books.ByService(ctx, from, to); err == nil {
				t.Devices, err = a.Books.ByDevice(ctx, from, to)
			}
		}
		return answer(t, badRequest(err))
	})
	huma.Register(a.huma, op("GET", "/v1/statements/{month}", Read, "A month (2026-11) of one device or one payer, or of all"), func(ctx context.Context, in *struct {
		Month  string `path:"month" maxLength:"7"`
		Device string `query:"device" maxLength:"64"`
		Buyer  string `query:"buyer" maxLength:"80"`
	}) (*body[books.Statement], error) {
		s, err := a.Books.Statement(ctx, in.Month, in.Device, in.Buyer)
		return answer(s, badRequest(err))
	})
	export := op("GET", "/v1/export", Read, "All orders of a filter, oldest first, as CSV or JSON lines, with the rate stamp of each")
	huma.Register(a.huma, export, func(_ context.Context, in *struct {
		orderFilter
		Format string `query:"format" enum:"csv,json" default:"csv"`
	}) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			media := map[string]string{"csv": "text/csv; charset=utf-8", "json": "application/jsonl"}[in.Format]
			ctx.SetHeader("Content-Type", media)
			ctx.SetHeader("Content-Disposition", `attachment; filename="orders-`+time.Now().UTC().Format(time.DateOnly)+`.`+in.Format+`"`)
			if err := a.Books.Export(ctx.Context(), in.filter(), ctx.BodyWriter(), in.Format); err != nil {
				a.Machine.Engine.Log.Warn("export", "err", err)
			}
		}}, nil
	})
}

// badRequest is for errors of the books about what was asked.
func badRequest(err error) error {
	if err == nil {
		return nil
	}
	return &Problem{Type: "about:blank", Title: "invalid", Status: http.StatusBadRequest, Detail: err.Error(), Code: "invalid"}
}
