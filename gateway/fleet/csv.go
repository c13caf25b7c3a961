package fleet

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	core "coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/spend"
)

// Columns are those of a list of devices. Only name must be there; their order is
// free. Amounts are msat, or say their unit: "5 sat". Tags and payees are
// parted by spaces.
var Columns = []string{
	"name", "tenant", "tags", "key", "max_payment_msat", "price_per_unit_max_msat",
	"budget_msat", "budget_renewal", "payee_budget_msat", "per_minute", "payees",
}

const (
	// MaxRows bounds the devices of one import, MaxCSV its bytes.
	MaxRows = 10_000
	MaxCSV  = 8 << 20
	// MaxBad is how many mistakes are named at once.
	MaxBad = 100
)

// A Bad is a mistake in a list, where it stands: lines and columns from 1, columns
// in bytes, as editors count.
type Bad struct {
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Field  string `json:"field,omitempty"`
	Why    string `json:"why"`
}

// An ImportError is every mistake of a list, up to MaxBad. Nothing was imported.
type ImportError struct {
	Bad  []Bad
	More int // mistakes beyond
}

func (e *ImportError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d mistakes, and no device was added:", len(e.Bad)+e.More)
	for _, bad := range e.Bad {
		fmt.Fprintf(&b, "\nline %d, column %d: %s", bad.Line, bad.Column, bad.Why)
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "\nand %d more", e.More)
	}
	return b.String()
}

// Import adds the devices of a CSV list with a header (RFC 4180): all of them, or
// none and the error is an *ImportError that names each mistake.
func (f *Fleet) Import(ctx context.Context, r io.Reader) (added int, err error) {
	l := list{there: f.all(), lines: map[string]int{}, owner: map[keys.Public]string{}}
	for _, p := range l.there {
		if p.Key != (keys.Public{}) {
			l.owner[p.Key] = p.Name
		}
	}
	if err := l.read(io.LimitReader(r, MaxCSV+1)); err != nil {
		return 0, &money.Error{Kind: money.Invalid, Op: "import devices", Err: err}
	}
	if len(l.profiles) == 0 {
		return 0, nil
	}
	return len(l.profiles), f.Add(ctx, l.profiles...)
}

// list is what is read so far.
type list struct {
	there    map[string]core.Profile
	lines    map[string]int         // where a name stands
	owner    map[keys.Public]string // whose a key is
	profiles []core.Profile
	wrong    ImportError
}

func (l *list) read(from io.Reader) error {
	r := csv.NewReader(from)
	r.FieldsPerRecord, r.ReuseRecord, r.TrimLeadingSpace = -1, true, true
	head, err := r.Read()
	if err != nil {
		return fmt.Errorf("it has no header; the columns are %s", strings.Join(Columns, ", "))
	}
	columns := slices.Clone(head)
	columns[0] = strings.TrimPrefix(columns[0], "\ufeff") // spreadsheets write one
	for i, name := range columns {
		line, column := r.FieldPos(i)
		switch {
		case !slices.Contains(Columns, name):
			l.bad(line, column, name, fmt.Sprintf("there is no column %.40q; the columns are %s", name, strings.Join(Columns, ", ")))
		case slices.Index(columns, name) != i:
			l.bad(line, column, name, fmt.Sprintf("the column %s stands twice", name))
		}
	}
	if !slices.Contains(columns, "name") {
		l.bad(1, 1, "name", "the column name is missing")
	}
	if len(l.wrong.Bad) > 0 {
		return &l.wrong
	}
	for {
		row, err := r.Read()
		var syntax *csv.ParseError
		switch {
		case err == io.EOF && r.InputOffset() > MaxCSV:
			return fmt.Errorf("it has more than %d bytes; import it in parts", MaxCSV)
		case err == io.EOF && len(l.wrong.Bad) > 0:
			return &l.wrong
		case err == io.EOF:
			return nil
		case errors.As(err, &syntax):
			l.bad(syntax.Line, syntax.Column, "", syntax.Err.Error())
			return &l.wrong // what follows a broken quote means nothing
		case err != nil:
			return err
		case len(l.profiles) >= MaxRows:
			return fmt.Errorf("it has more than %d devices; import it in parts", MaxRows)
		}
		l.row(columns, row, r.FieldPos)
	}
}

func (l *list) bad(line, column int, field, why string) {
	if len(l.wrong.Bad) == MaxBad {
		l.wrong.More++
		return
	}
	l.wrong.Bad = append(l.wrong.Bad, Bad{line, column, field, why})
}

// row reads one device, and every mistake in it.
func (l *list) row(columns, row []string, at func(int) (line, column int)) {
	line, column := at(0)
	if len(row) != len(columns) {
		l.bad(line, column, "", fmt.Sprintf("it has %d fields; the header has %d", len(row), len(columns)))
		return
	}
	var p core.Profile
	for i, text := range row {
		err := l.field(&p, columns[i], strings.TrimSpace(text))
		if err == nil {
			// What is wrong with the profile now is this field's fault.
			check := p
			if check.Name == "" && columns[i] != "name" {
				check.Name = "x"
			}
			if err = check.Check(); err != nil {
				p = without(p, columns[i])
			}
		}
		if err != nil {
			line, column := at(i)
			l.bad(line, column, columns[i], err.Error())
		}
	}
	if p.Name != "" {
		l.lines[p.Name] = line
	}
	l.profiles = append(l.profiles, p)
}

// without takes a field that is wrong back, so that it is named once.
func without(p core.Profile, column string) core.Profile {
	switch column {
	case "name":
		p.Name = ""
	case "tenant":
		p.Tenant = ""
	case "tags":
		p.Tags = nil
	case "payees":
		p.Payees = nil
	case "key":
		p.Key = keys.Public{}
	default:
		p.Limits = core.Limits{}
	}
	return p
}

func (l *list) field(p *core.Profile, column, text string) (err error) {
	if text == "" && column != "name" {
		return nil
	}
	switch column {
	case "name":
		p.Name = text
		if _, there := l.there[text]; there {
			return fmt.Errorf("device %s is there already", text)
		}
		if line := l.lines[text]; line != 0 {
			return fmt.Errorf("device %s stands in line %d already", text, line)
		}
	case "tenant":
		p.Tenant = text
	case "tags":
		p.Tags = strings.Fields(text)
	case "payees":
		p.Payees = strings.Fields(text)
	case "key":
		key, err := keys.ParsePublicHex(text)
		if err != nil {
			return err
		}
		if owner, taken := l.owner[key]; taken {
			return fmt.Errorf("this key is that of device %s; every device needs one of its own", owner)
		}
		p.Key, l.owner[key] = key, p.Name
	case "max_payment_msat":
		p.Limits.Order, err = amount(text)
	case "price_per_unit_max_msat":
		p.Limits.UnitPrice, err = amount(text)
	case "budget_msat":
		p.Limits.Total, err = amount(text)
	case "payee_budget_msat":
		p.Limits.Payee, err = amount(text)
	case "budget_renewal":
		p.Limits.Period, err = spend.ParsePeriod(text)
	case "per_minute":
		if p.Limits.PerMinute, err = strconv.Atoi(text); err != nil {
			return fmt.Errorf("%.40q is no number", text)
		}
	}
	return err
}

// amount reads a number of msat, or one with its unit.
func amount(text string) (money.Amount, error) {
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		return money.Amount(n), nil
	}
	return money.ParseAmount(text)
}

// Export writes the devices in service as Import reads them.
func (f *Fleet) Export(w io.Writer) error {
	all := f.all()
	c := csv.NewWriter(w)
	c.Write(Columns)
	number := func(n uint64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatUint(n, 10)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		p := all[name]
		if p.Revoked {
			continue
		}
		key, period := "", ""
		if p.Key != (keys.Public{}) {
			key = p.Key.String()
		}
		if l := p.Limits; l.Period != (spend.Period{}) {
			period = l.Period.String()
		}
		l := p.Limits
		c.Write([]string{
			p.Name, p.Tenant, strings.Join(p.Tags, " "), key, number(uint64(l.Order)), number(uint64(l.UnitPrice)),
			number(uint64(l.Total)), period, number(uint64(l.Payee)), number(uint64(l.PerMinute)), strings.Join(p.Payees, " "),
		})
	}
	c.Flush()
	return c.Error()
}
