package api

import (
	"reflect"
	"time"
)

// Hurry makes bodies that do not come be given up soon.
func (a *API) Hurry(d time.Duration) { a.bodyTime = d }

// FillStreams takes all room for event streams but n.
func (a *API) FillStreams(n int) {
	for range MaxStreams - n {
		a.streams <- struct{}{}
	}
}

// Impatient cuts slow readers of events soon.
func (a *API) Impatient(d time.Duration) { a.slowReader = d }

// Routes lists what is registered, as METHOD /path.
func (a *API) Routes() (list []string) {
	for path, item := range a.huma.OpenAPI().Paths {
		for method, operation := range map[string]any{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "PATCH": item.Patch, "DELETE": item.Delete} {
			if !reflect.ValueOf(operation).IsNil() {
				list = append(list, method+" "+path)
			}
		}
	}
	return append(list, a.handled...)
}
