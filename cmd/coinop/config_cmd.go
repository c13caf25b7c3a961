package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"coinop.dev"
)

func configCommand(u *ui) *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "config", Short: "Read, change and explain a machine's config file",
		Long: `A machine reads one TOML file, and then its environment: COINOP_LIMITS_ORDER overrides
order of [limits], and COINOP_LIMITS_ORDER_FILE names a file that has the value, so that
a password need not be in the file or in the environment.

Keys are written as mqtt.listen. Those of a list of tables carry the table's number or
name: sell[0].price, sell[water].price.`,
		Example: `  coinop config get limits.order
  coinop config set limits.order "10 sat"
  coinop config set sell[water].price "0.02 EUR"
  coinop config schema --toml`,
	}
	c.PersistentFlags().StringVarP(&path, "config", "c", "coinop.toml", "the machine's TOML file")
	get := &cobra.Command{
		Use: "get [key]", Short: "Print what holds, and where it comes from: the file, the environment or a default",
		Args: atMost(1),
		RunE: func(_ *cobra.Command, args []string) error { return u.configGet(path, strings.Join(args, "")) },
	}
	set := &cobra.Command{
		Use: "set <key> <value>", Short: "Change one key in the file; comments and order stay",
		Long: `The whole file is checked before anything is written, and the old one is kept beside it
with .bak at its end. A machine that runs takes prices and rates when it is told to read
its config again (systemctl reload coinop, or SIGHUP), and the rest at its next start.`,
		Example: "  coinop config set rails \"oneway: lightning:\"\n  coinop config set sell[water].price \"5 sat\"",
		Args:    exactly("<key> <value>", 2),
		RunE:    func(_ *cobra.Command, args []string) error { return u.configSet(path, args[0], args[1]) },
	}
	get.ValidArgsFunction, set.ValidArgsFunction = completeKey, completeKey
	var asTOML bool
	schema := &cobra.Command{
		Use: "schema", Short: "Print every key there is, as JSON Schema or as an example", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			if asTOML {
				_, err := io.WriteString(u.out, coinop.Reference)
				return err
			}
			e := json.NewEncoder(u.out)
			e.SetEscapeHTML(false)
			e.SetIndent("", "  ")
			return e.Encode(configSchema())
		},
	}
	schema.Flags().BoolVar(&asTOML, "toml", false, "a config file that has every key, with comments")
	check := &cobra.Command{
		Use: "check", Short: "Say what the config means, or what is wrong with it", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			config, err := readConfig(path)
			if err != nil {
				return err
			}
			return u.checkConfig(config)
		},
	}
	save := &cobra.Command{
		Use: "save", Short: "Write what the environment says into the file", Args: noArgs,
		Long: "Then a start without that environment is the same. What comes from a file of its own (COINOP_…_FILE) stays there.",
		RunE: func(*cobra.Command, []string) error { return u.configSave(path) },
	}
	c.AddCommand(get, set, schema, check, save)
	return c
}

// completeKey proposes keys to a shell.
func completeKey(_ *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, k := range coinop.Keys() {
		names = append(names, strings.Replace(k.Name, "[]", "[0]", 1)+"\t"+k.Doc)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// exactly is cobra.ExactArgs with our exit code, and says what is missing.
func exactly(what string, n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usage{fmt.Errorf("write %s %s", c.CommandPath(), what)}
		}
		return nil
	}
}

func atMost(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > n {
			return usage{fmt.Errorf("%s takes %d arguments at most, and got %q", c.CommandPath(), n, args[n])}
		}
		return nil
	}
}

// A setting is a key as it holds.
type setting struct {
	Key   string `json:"key"`
	Value any    `json:"value"` // null if there is none
	From  string `json:"from"`  // default, file, environment
	Where string `json:"where,omitempty"`
}

// text is the value for a person.
func (s setting) text() string {
	switch v := s.Value.(type) {
	case nil:
		return "-"
	case []string:
		return strings.Join(v, " ")
	case []any:
		return strings.Trim(fmt.Sprint(v), "[]")
	default:
		return fmt.Sprint(v)
	}
}

func (u *ui) configGet(path, name string) error {
	var all []setting
	config, err := readConfig(path)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var file map[string]any
	if err := toml.Unmarshal(raw, &file); err != nil {
		return err
	}
	if name == "" {
		all = settings(config, file)
		return u.show(map[string]any{"file": path, "keys": all}, func(w io.Writer) {
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			for _, s := range all {
				fmt.Fprintf(t, "%s\t%s\t%s\n", s.Key, s.text(), strings.TrimSpace(s.From+" "+s.Where))
			}
			t.Flush()
		})
	}
	if _, err := coinop.FindKey(name); err != nil {
		return exit{err, exitNotFound}
	}
	full, err := byNumber(raw, name)
	if err != nil {
		return exit{err, exitNotFound}
	}
	for _, s := range settings(config, file) {
		if s.Key == full {
			return u.show(s, func(w io.Writer) {
				fmt.Fprintln(w, s.text())
				fmt.Fprintf(u.err, "  from %s\n", strings.TrimSpace(cmp.Or(map[string]string{"file": path}[s.From], s.From)+" "+s.Where))
			})
		}
	}
	k, _ := coinop.FindKey(name)
	s := setting{Key: full, From: "default", Where: k.Default}
	return u.show(s, func(w io.Writer) { fmt.Fprintf(w, "- (%s)\n", s.Where) })
}

// byNumber is a key whose table is named by its number.
func byNumber(raw []byte, name string) (string, error) {
	if !strings.Contains(name, "[") {
		return name, nil
	}
	table, key, n, err := place(raw, statements(raw), name)
	return fmt.Sprintf("%s[%d].%s", table, n, key), err
}

// settings are all keys, in the order of the reference. Passwords in URIs do not
// show.
func settings(c Config, file map[string]any) (all []setting) {
	filled := map[string]string{ // what empty means
		"store": c.StoreURI(), "backup": string(c.BackupFile()), "key": "file://" + filepath.Join(c.Data, "key"),
		"drain": "10s", "limits.period": "never",
	}
	for _, k := range coinop.Keys() {
		table, key, list := strings.Cut(k.Name, "[].")
		if list {
			rows, _ := file[table].([]any)
			for i, row := range rows {
				if v, ok := row.(map[string]any)[key]; ok {
					all = append(all, setting{Key: fmt.Sprintf("%s[%d].%s", table, i, key), Value: redacted(v), From: "file"})
				}
			}
			continue
		}
		s := setting{Key: k.Name, From: "default", Where: k.Default}
		v, _ := c.Value(k.Name)
		if inFile(file, k.Name) {
			s.From, s.Where, s.Value = "file", "", v
		}
		if from := fromEnvironment(k); from != "" {
			s.From, s.Where, s.Value = "environment", from, v
		}
		if s.From == "default" {
			switch is := filled[k.Name]; {
			case is != "":
				s.Value, s.Where = is, ""
			case k.Type == "boolean":
				s.Value, s.Where = v, ""
			}
		}
		s.Value = redacted(s.Value)
		all = append(all, s)
	}
	slices.SortStableFunc(all, func(a, b setting) int { // a list's tables one after the other
		return cmp.Compare(row(a.Key), row(b.Key))
	})
	return all
}

// row is where the table of a key stands among all: those of no list first.
func row(key string) string {
	table, rest, list := strings.Cut(key, "[")
	if !list {
		return ""
	}
	n, _, _ := strings.Cut(rest, "]")
	return fmt.Sprintf("%s %4s", table, n)
}

func inFile(file map[string]any, name string) bool {
	first, rest, deeper := strings.Cut(name, ".")
	v, ok := file[first]
	if !ok || !deeper {
		return ok
	}
	m, _ := v.(map[string]any)
	return inFile(m, rest)
}

// fromEnvironment is the variable that sets a key, or "".
func fromEnvironment(k coinop.Key) string {
	env := k.Env()
	for _, name := range []string{env, env + "_FILE"} {
		if _, ok := os.LookupEnv(name); ok && env != "" {
			return name
		}
	}
	return ""
}

// redacted hides the passwords in URIs.
func redacted(v any) any {
	switch v := v.(type) {
	case string:
		if u, err := url.Parse(v); err == nil && (u.User != nil || u.Query().Has("pin") || u.Query().Has("pin-value")) {
			if q := u.Query(); q.Has("pin") || q.Has("pin-value") {
				u.RawQuery = "xxxxx"
			}
			return u.Redacted()
		}
		return v
	case []string:
		out := make([]string, len(v))
		for i := range v {
			out[i] = redacted(v[i]).(string)
		}
		return out
	}
	return v
}

func (u *ui) configSet(path, name, value string) error {
	k, err := coinop.FindKey(name)
	if err != nil {
		return usage{err}
	}
	if strings.Contains(k.Name, "[]") && !strings.Contains(name, "[") || strings.Contains(name, "[]") {
		return usage{fmt.Errorf("%s is in a list of tables: say which, as in %s", name, strings.Replace(k.Name, "[]", "[0]", 1))}
	}
	return u.changeConfig(path, []change{{k, name, value}})
}

// A change is a key and its new value.
type change struct {
	key   coinop.Key
	name  string // as it was written
	value string
}

// changeConfig writes the file with all changes, or leaves it.
func (u *ui) changeConfig(path string, changes []change) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return exit{fmt.Errorf("config: %w", err), exitNotFound}
	}
	after := raw
	keys := []string{}
	for _, c := range changes {
		text, err := literal(c.key, c.value)
		if err == nil {
			after, err = editConfig(after, c.name, text)
		}
		if err != nil {
			return usage{fmt.Errorf("config %s: %w", path, err)}
		}
		keys = append(keys, c.name)
	}
	c, err := coinop.ParseConfig(after)
	if err == nil {
		err = c.Check()
	}
	if err == nil {
		err = checkDeliverers(c)
	}
	if err != nil {
		return usage{fmt.Errorf("config %s is left as it is: %w", path, err)}
	}
	v := map[string]any{"file": path, "set": keys, "changed": false}
	if !bytes.Equal(raw, after) {
		backup, err := replaceConfig(path, raw, after)
		if err != nil {
			return err
		}
		v["changed"], v["backup"] = true, backup
	}
	for _, c := range changes {
		if from := fromEnvironment(c.key); from != "" && len(changes) == 1 {
			fmt.Fprintf(u.err, "  %s is set in the environment, and overrides this\n", from)
		}
	}
	return u.show(v, func(w io.Writer) {
		if len(keys) == 0 || v["changed"] == false {
			fmt.Fprintf(w, "%s says so already\n", path)
			return
		}
		fmt.Fprintf(w, "%s: %s is set; what it was is in %s\n", path, strings.Join(keys, ", "), v["backup"])
	})
}

func (u *ui) configSave(path string) error {
	config, err := readConfig(path)
	if err != nil {
		return err
	}
	var changes []change
	for _, k := range coinop.Keys() {
		from := fromEnvironment(k)
		if from == "" {
			continue
		}
		if from != k.Env() {
			fmt.Fprintf(u.err, "  %s is not written: %s stays where it is\n", k.Name, from)
			continue
		}
		v, _ := config.Value(k.Name)
		changes = append(changes, change{k, k.Name, setting{Value: v}.text()})
	}
	return u.changeConfig(path, changes)
}

// configSchema is JSON Schema (2020-12) of a config file.
func configSchema() map[string]any {
	root := schemaTable("A coinop machine")
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["required"] = []string{"version", "data"}
	for _, k := range coinop.Keys() {
		at := root
		table, key, nested := strings.Cut(k.Name, ".")
		if !nested {
			key = table
		} else {
			table, list := strings.CutSuffix(table, "[]")
			properties := root["properties"].(map[string]any)
			if properties[table] == nil {
				sub := schemaTable("")
				properties[table] = sub
				if list {
					properties[table] = map[string]any{"type": "array", "items": sub}
				}
			}
			at = properties[table].(map[string]any)
			if list {
				at = at["items"].(map[string]any)
			}
		}
		at["properties"].(map[string]any)[key] = schemaKey(k)
	}
	return root
}

func schemaTable(title string) map[string]any {
	t := map[string]any{"type": "object", "additionalProperties": false, "properties": map[string]any{}}
	if title != "" {
		t["title"] = title
	}
	return t
}

func schemaKey(k coinop.Key) map[string]any {
	v := map[string]any{"type": k.Type, "description": k.Doc}
	var file struct{ V any }
	if toml.Unmarshal([]byte("V = "+k.Example), &file) == nil {
		v["examples"] = []any{file.V}
	}
	if k.Type == "array" {
		v["items"] = map[string]any{"type": "string"}
	}
	var fallback struct{ V any }
	switch {
	case k.Default == "":
	case (k.Type == "boolean" || k.Type == "integer") && toml.Unmarshal([]byte("V = "+k.Default), &fallback) == nil:
		v["default"] = fallback.V
	default:
		v["description"] = k.Doc + " Default: " + k.Default + "."
	}
	if env := k.Env(); env != "" {
		v["x-env"] = env
	}
	return v
}
