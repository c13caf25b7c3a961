package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"coinop.dev/core/step"
	"coinop.dev/world/books"
)

type (
	Span struct {
		From step.Time `query:"from_ms" doc:"default: 30 days before to_ms" minimum:"0"`
		To   step.Time `query:"to_ms" doc:"default: now" minimum:"0"`
	}
	totals struct {
		Points   []books.Point `json:"points"`
		Services []books.Named `json:"services"`
		Devices  []books.Named `json:"devices"`
	}
	// OrderFilter chooses orders of the books.
	OrderFilter struct {
		Service string    `query:"service" maxLength:"64"`
		Device  string    `query:"device" maxLength:"64"`
		Buyer   string    `query:"buyer" maxLength:"80"`
		State   string    `query:"state" enum:"quoted,pending,held,paid,delivered,settled,refunded,expired,failed,unknown"`
		Gateway string    `query:"gateway" maxLength:"66"`
		From    step.Time `query:"from_ms" minimum:"0"`
		To      step.Time `query:"to_ms" minimum:"0"`
		Cursor  string    `query:"cursor" maxLength:"200"`
		Limit   int       `query:"limit" minimum:"0" maximum:"500"`
	}
	orderPage struct {
		Orders []books.Order `json:"orders"`
		Next   string        `json:"next,omitempty" doc:"the cursor of the next page"`
	}
)

// of fills in what is not said.
func (s Span) of(now, bucket step.Time) (from, to step.Time, err error) {
	from, to = s.From, s.To
	if to == 0 {
		to = now + 1
	}
	if from == 0 {
		from = max(to-30*step.Day, 0)
	}
	if from >= to || (to-from)/bucket > books.MaxPoints {
		err = invalid(fmt.Sprintf("from_ms must be before to_ms, and at most %d points lie between them", books.MaxPoints))
	}
	return from, to, err
}

func (f OrderFilter) filter() books.Filter {
	return books.Filter{
		Service: f.Service, Device: f.Device, Buyer: f.Buyer, State: f.State, Gateway: f.Gateway,
		From: f.From, To: f.To, Cursor: f.Cursor, Limit: f.Limit,
	}
}

// keeping is what is asked of the past.
func (a *API) keeping() {
	huma.Register(a.huma, op("GET", "/v1/orders", Read, "Orders, newest first"), func(ctx context.Context, in *struct{ OrderFilter }) (*body[orderPage], error) {
		page, next, err := a.Books.Orders(ctx, in.filter())
		return answer(orderPage{append([]books.Order{}, page...), next}, err)
	})
	huma.Register(a.huma, op("GET", "/v1/totals", Read, "Revenue and spend over time, and by service and device"), func(ctx context.Context, in *struct {
		Span
		By string `query:"by" enum:"hour,day" default:"day"`
	}) (*body[totals], error) {
		bucket := step.Day
		if in.By == "hour" {
			bucket = step.Hour
		}
		from, to, err := in.of(a.Machine.Engine.Host.Now(), bucket)
		if err != nil {
			return nil, err
		}
		var t totals
		if t.Points, err = a.Books.Totals(ctx, from, to, bucket); err == nil {
			if t.Services, err = a.Books.ByService(ctx, from, to); err == nil {
				t.Devices, err = a.Books.ByDevice(ctx, from, to)
			}
		}
		return answer(t, err)
	})
	huma.Register(a.huma, op("GET", "/v1/statements/{month}", Read, "A month (2026-11) of one device or one payer, or of all"), func(ctx context.Context, in *struct {
		Month  string `path:"month" pattern:"^[0-9]{4}-(0[1-9]|1[0-2])$"`
		Device string `query:"device" maxLength:"64"`
		Buyer  string `query:"buyer" maxLength:"80"`
	}) (*body[books.Statement], error) {
		if in.Device != "" && in.Buyer != "" {
			return nil, invalid("a statement is of a device or of a payer, not of both")
		}
		return answer(a.Books.Statement(ctx, in.Month, in.Device, in.Buyer))
	})
	export := op("GET", "/v1/export", Read, "All orders of a filter, oldest first, as CSV or as a JSON array, with the rate stamp of each")
	export.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{
		"text/csv":         {Schema: &huma.Schema{Type: huma.TypeString}},
		"application/json": {Schema: &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeObject}}},
	}}}
	huma.Register(a.huma, export, func(_ context.Context, in *struct {
		OrderFilter
		Format string `query:"format" enum:"csv,json" default:"csv"`
	}) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(ctx huma.Context) { a.export(ctx, in.filter(), in.Format) }}, nil
	})
}

func (a *API) export(ctx huma.Context, f books.Filter, format string) {
	day := time.UnixMilli(int64(a.Machine.Engine.Host.Now())).UTC().Format(time.DateOnly)
	ctx.SetHeader("Content-Type", map[string]string{"csv": "text/csv; charset=utf-8", "json": "application/json"}[format])
	ctx.SetHeader("Content-Disposition", `attachment; filename="orders-`+day+`.`+format+`"`)
	_, w := humago.Unwrap(ctx)
	if err := a.Books.Export(ctx.Context(), f, patient{w, http.NewResponseController(w)}, format); err != nil {
		a.Machine.Engine.Log.Warn("export", "err", err)
		panic(http.ErrAbortHandler) // what was sent must not look whole
	}
}

// patient gives a slow reader so much time for each part, and no more.
type patient struct {
	http.ResponseWriter
	out *http.ResponseController
}

func (p patient) Write(b []byte) (int, error) {
	p.out.SetWriteDeadline(time.Now().Add(slowReader))
	defer p.out.SetWriteDeadline(time.Time{})
	return p.ResponseWriter.Write(b)
}
