package coinop

import (
	_ "embed"
	"encoding"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Reference is a config file that has every key, with what is to be said of each.
//
//go:embed reference.toml
var Reference string

// A Key is a key of a config file.
type Key struct {
	// Name is "mqtt.listen", or "sell[].price" for a key of a list of tables.
	Name string `json:"key"`
	// Type is string, integer or boolean, or array for a list of strings.
	Type string `json:"type"`
	// Text says that the string is an amount, a price or a period.
	Text bool   `json:"-"`
	Doc  string `json:"doc"`
	// Default is what holds if the key is not there, in words; empty for a key that
	// must be there.
	Default string `json:"default,omitempty"`
	Example string `json:"example"` // as TOML
}

// Env is the variable that overrides the key, or "" if none does. With _FILE after
// it, it names the file that has the value.
func (k Key) Env() string {
	if strings.Contains(k.Name, "[]") || k.Name == "key" || k.Name == "version" {
		return ""
	}
	return "COINOP_" + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

// Keys are all of them, in the order of Reference.
var Keys = sync.OnceValue(func() (all []Key) {
	types := map[string]reflect.Type{}
	keysOf(reflect.TypeFor[Config](), "", types)
	var doc []string
	section, fallback := "", ""
	for line := range strings.Lines(Reference) {
		line = strings.TrimSpace(line)
		name, example, isKey := strings.Cut(line, " = ")
		switch {
		case strings.HasPrefix(line, "# Default: "):
			fallback = strings.TrimPrefix(line, "# Default: ")
		case strings.HasPrefix(line, "#"):
			doc = append(doc, strings.TrimPrefix(line, "# "))
		case strings.HasPrefix(line, "[["):
			section, doc = strings.Trim(line, "[]")+"[].", nil
		case strings.HasPrefix(line, "["):
			section, doc = strings.Trim(line, "[]")+".", nil
		case isKey:
			k := Key{Name: section + name, Doc: strings.Join(doc, " "), Default: fallback, Example: example}
			if t, ok := types[k.Name]; ok {
				k.Type, k.Text = typeName(t)
				all = append(all, k)
			}
			doc, fallback = nil, ""
		default:
			doc = nil
		}
	}
	return all
})

// keysOf collects the types of all keys of a struct.
func keysOf(t reflect.Type, prefix string, into map[string]reflect.Type) {
	for f := range t.Fields() {
		name := f.Tag.Get("toml")
		switch list := f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct; {
		case f.Anonymous:
			keysOf(f.Type, prefix, into)
		case name == "-":
		case list:
			keysOf(f.Type.Elem(), prefix+name+"[].", into)
		case table(f.Type):
			keysOf(f.Type, prefix+name+".", into)
		default:
			into[prefix+name] = f.Type
		}
	}
}

// table reports whether a struct stands in a file as a table, and not as text.
func table(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func typeName(t reflect.Type) (name string, text bool) {
	switch {
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return "string", true
	case t.Kind() == reflect.Slice:
		return "array", false
	case t.Kind() == reflect.Bool:
		return "boolean", false
	case t.Kind() == reflect.String:
		return "string", false
	}
	return "integer", false
}

// FindKey finds a key by its name, in which a list of tables may carry a number or a
// name: "sell[0].price". The error names keys that look like it.
func FindKey(name string) (Key, error) {
	plain := name
	if open, end := strings.Index(name, "["), strings.Index(name, "]"); 0 < open && open < end {
		plain = name[:open+1] + name[end:]
	}
	for _, k := range Keys() {
		if k.Name == plain {
			return k, nil
		}
	}
	err := fmt.Errorf("there is no key %.60q in a config; coinop config schema lists them all", name)
	if near := nearKeys(plain); len(near) > 0 {
		err = fmt.Errorf("there is no key %.60q in a config; is it %s?", name, strings.Join(near, ", or "))
	}
	return Key{}, err
}

// maxNear bounds how many keys are proposed.
const maxNear = 3

// nearKeys are those that somebody may have meant: of nearly the same letters, of
// another table, or of the table that is named.
func nearKeys(name string) (near []string) {
	var names []string
	for _, k := range Keys() {
		names = append(names, k.Name)
	}
	names = append(sections(), names...)
	plain := strings.NewReplacer("[]", "")
	name = plain.Replace(name)
	last := name[strings.LastIndex(name, ".")+1:]
	closest := 2 + len(name)/4
	for _, k := range names {
		closest = min(closest, distance(plain.Replace(k), name))
	}
	for _, like := range []func(string) bool{
		func(k string) bool { return distance(k, name) == closest && closest <= 1+len(name)/4 },
		func(k string) bool { return k[strings.LastIndex(k, ".")+1:] == last },
		func(k string) bool { return strings.HasPrefix(k, name+".") },
	} {
		for _, k := range names {
			if len(near) < maxNear && like(plain.Replace(k)) && !slices.Contains(near, k) {
				near = append(near, k)
			}
		}
	}
	return near
}

// distance is how many letters must be changed, added or left out to make one of
// the other (Levenshtein). Long names are far from everything.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			same := before
			if a[i] != b[j] {
				same++
			}
			before = row[j+1]
			row[j+1] = min(same, row[j]+1, before+1)
		}
	}
	return row[len(b)]
}

// Value is what a key that is in no list of tables says.
func (c *Config) Value(name string) (v any, ok bool) {
	f, ok := field(reflect.ValueOf(c).Elem(), name)
	if !ok {
		return nil, false
	}
	if text, is := f.Interface().(encoding.TextMarshaler); is {
		if f.IsZero() {
			return "", true
		}
		raw, err := text.MarshalText()
		return string(raw), err == nil
	}
	return f.Interface(), true
}

// field finds the place of a key.
func field(v reflect.Value, name string) (f reflect.Value, ok bool) {
	first, rest, deeper := strings.Cut(name, ".")
	for _, t := range reflect.VisibleFields(v.Type()) {
		if t.Tag.Get("toml") != first || t.Anonymous {
			continue
		}
		f = v.FieldByIndex(t.Index)
		switch {
		case deeper && table(f.Type()):
			return field(f, rest)
		case deeper || table(f.Type()):
			return f, false
		}
		return f, true
	}
	return f, false
}

// maxValue bounds a value that is read from a file, in bytes.
const maxValue = 64 << 10

// Environment lets variables override the file: COINOP_STORE for store,
// COINOP_MQTT_LISTEN for mqtt.listen, and COINOP_STORE_FILE for a store whose URI, with
// its password, is in a file. Lists are parted by spaces. Lists of tables, and the
// key named key, do not come this way.
func (c *Config) Environment(lookup func(string) (string, bool)) error {
	for _, k := range Keys() {
		env := k.Env()
		if env == "" {
			continue
		}
		text, ok, err := variable(k, lookup)
		if err == nil && ok {
			f, _ := field(reflect.ValueOf(c).Elem(), k.Name)
			err = set(f, text)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", env, err)
		}
	}
	for _, section := range sections() {
		env := "COINOP_" + strings.ToUpper(section)
		if _, ok := lookup(env); ok {
			return fmt.Errorf("%s cannot be set in the environment: it has keys of its own, such as %s", env, nearKeys(section)[1])
		}
	}
	return nil
}

// sections are the tables of a config.
func sections() (all []string) {
	for _, k := range Keys() {
		if section, _, ok := strings.Cut(strings.ReplaceAll(k.Name, "[]", ""), "."); ok && !slices.Contains(all, section) {
			all = append(all, section)
		}
	}
	return all
}

// variable is what the environment says of a key, itself or in a file.
func variable(k Key, lookup func(string) (string, bool)) (text string, ok bool, err error) {
	env := k.Env()
	text, ok = lookup(env)
	if k.Type != "string" || strings.HasSuffix(k.Name, "_file") {
		return text, ok, nil
	}
	path, fromFile := lookup(env + "_FILE")
	switch {
	case !fromFile:
		return text, ok, nil
	case ok:
		return "", false, fmt.Errorf("%s_FILE is set too; set one of them", env)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", false, fmt.Errorf("of %s_FILE: %w", env, err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxValue+1))
	text = strings.TrimSpace(string(raw))
	switch {
	case err != nil:
		return "", false, fmt.Errorf("of %s_FILE: %w", env, err)
	case len(raw) > maxValue:
		return "", false, fmt.Errorf("%s, of %s_FILE, has more than %d bytes", path, env, maxValue)
	case strings.ContainsAny(text, "\r\n"):
		return "", false, fmt.Errorf("%s, of %s_FILE, has more than one line; it must have the value of %s and nothing else", path, env, k.Name)
	}
	return text, true, nil
}

// set reads text into a field.
func set(f reflect.Value, text string) error {
	if u, ok := f.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch f.Kind() {
	case reflect.String:
		f.SetString(text)
	case reflect.Bool:
		v, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%.20q is not true or false", text)
		}
		f.SetBool(v)
	case reflect.Int, reflect.Uint64:
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return fmt.Errorf("%.20q is not a number", text)
		}
		if f.Kind() == reflect.Int {
			f.SetInt(int64(n))
		} else {
			f.SetUint(n)
		}
	case reflect.Slice:
		f.Set(reflect.ValueOf(strings.Fields(text)))
	default:
		return errors.New("it cannot be set in the environment")
	}
	return nil
}
