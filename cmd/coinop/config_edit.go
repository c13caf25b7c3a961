package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"coinop.dev"
	"coinop.dev/world/store"
)

// A statement is one key and its value, or the head of a table, as it stands in a
// TOML file: offsets in bytes.
type statement struct {
	table      string // that it stands in, or is the head of; "" before the first
	n          int    // of the tables with this name, from 0; -1 if it is no list
	key        string // "" for a head
	begin, end int    // of its lines
	value, to  int    // of its value
}

// full is the key's name as coinop.Key has it.
func (s statement) full() string {
	if s.table == "" || s.key == "" {
		return s.table + s.key
	}
	return s.table + "." + s.key
}

// statements reads a file that is valid TOML. It understands no more than where
// each value begins and ends: what it changes is checked by a parser that does.
func statements(raw []byte) (all []statement) {
	table, n, counts := "", -1, map[string]int{}
	for at := 0; at < len(raw); {
		begin := at
		at = skip(raw, at, " \t\r\n")
		if at == len(raw) {
			break
		}
		line := raw[at:lineEnd(raw, at)]
		switch {
		case raw[at] == '#':
			at += len(line)
		case raw[at] == '[':
			head, _, _ := bytes.Cut(line, []byte("#"))
			text := strings.TrimSpace(string(head))
			table, n = strings.Trim(text, "[] \t"), -1
			if strings.HasPrefix(text, "[[") {
				n = counts[table]
				counts[table]++
			}
			at += len(line)
			all = append(all, statement{table: table, n: n, begin: begin, end: at})
		default:
			equals := bytes.IndexByte(line, '=')
			if equals < 0 {
				return all
			}
			key := strings.NewReplacer(" ", "", "\t", "", `"`, "", "'", "").Replace(string(line[:equals]))
			value := skip(raw, at+equals+1, " \t")
			to := valueEnd(raw, value)
			at = lineEnd(raw, to)
			all = append(all, statement{table: table, n: n, key: key, begin: begin, end: at, value: value, to: to})
		}
	}
	return all
}

func skip(raw []byte, at int, cutset string) int {
	for at < len(raw) && strings.IndexByte(cutset, raw[at]) >= 0 {
		at++
	}
	return at
}

// lineEnd is after the line feed.
func lineEnd(raw []byte, at int) int {
	if i := bytes.IndexByte(raw[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(raw)
}

// valueEnd is where a value that begins at at has ended.
func valueEnd(raw []byte, at int) int {
	end, deep := at, 0
	for at < len(raw) {
		switch c := raw[at]; {
		case c == '"' || c == '\'':
			at = stringEnd(raw, at)
			end = at
			continue
		case c == '[' || c == '{':
			deep++
		case c == ']' || c == '}':
			deep--
		case c == '#':
			if deep <= 0 {
				return end
			}
			at = lineEnd(raw, at)
			continue
		case c == '\n':
			if deep <= 0 {
				return end
			}
		}
		if strings.IndexByte(" \t\r\n", raw[at]) < 0 {
			end = at + 1
		}
		at++
	}
	return end
}

// stringEnd is after the quote that ends the string at at.
func stringEnd(raw []byte, at int) int {
	quote := raw[at : at+1]
	if triple := bytes.Repeat(quote, 3); bytes.HasPrefix(raw[at:], triple) {
		quote = triple
	}
	for at += len(quote); at < len(raw); at++ {
		switch {
		case raw[at] == '\\' && quote[0] == '"':
			at++
		case bytes.HasPrefix(raw[at:], quote):
			at += len(quote)
			for len(quote) == 3 && at < len(raw) && raw[at] == quote[0] { // """a""""" ends with quotes of its own
				at++
			}
			return at
		}
	}
	return min(at, len(raw))
}

// nouns are the keys by which a table of a list may be named.
var nouns = map[string]string{"sell": "item", "rate": "currency", "serial": "device", "webhook": "url"}

// editConfig returns the file with a key set to value, which is TOML. Everything
// else in it stays as it is: comments, order, the writing of other values.
func editConfig(raw []byte, name, value string) ([]byte, error) {
	all := statements(raw)
	table, key, n, err := place(raw, all, name)
	if err != nil {
		return nil, err
	}
	full := statement{table: table, key: key}.full()
	newline := "\n"
	if bytes.Contains(raw, []byte("\r\n")) {
		newline = "\r\n"
	}
	here := -1 // the last statement of the table
	for i, s := range all {
		switch {
		case s.key != "" && s.full() == full && s.n == n:
			return verify(raw, slices.Concat(raw[:s.value], []byte(value), raw[s.to:]), name)
		case s.table == table && s.n == n:
			here = i
		}
	}
	line := []byte(key + " = " + value + newline)
	if here < 0 && table != "" { // in a table of its own, at the end
		head := newline + "[" + table + "]" + newline
		if len(raw) > 0 && raw[len(raw)-1] != '\n' {
			head = newline + head
		}
		return verify(raw, slices.Concat(raw, []byte(head), line), name)
	}
	at := 0
	if here >= 0 {
		at = all[here].end
		if at > 0 && raw[at-1] != '\n' {
			line = append([]byte(newline), line...)
		}
	}
	if commented := example(raw, all, table, n, key); commented > 0 {
		at = commented
	}
	return verify(raw, slices.Concat(raw[:at], line, raw[at:]), name)
}

// place says where a key belongs: "sell[water].price" in the table of the list sell
// whose item is water.
func place(raw []byte, all []statement, name string) (table, key string, n int, err error) {
	dot := strings.LastIndex(name, ".")
	table, key, n = name[:max(dot, 0)], name[dot+1:], -1
	open := strings.Index(table, "[")
	if open < 0 {
		return table, key, n, nil
	}
	which := strings.Trim(table[open:], "[]")
	table = table[:open]
	var have []string
	for _, s := range all {
		if s.table != table || s.n < 0 {
			continue
		}
		if s.key == "" && strconv.Itoa(s.n) == which {
			return table, key, s.n, nil
		}
		if s.key == nouns[table] {
			text := strings.Trim(string(raw[s.value:s.to]), `"'`)
			if text == which {
				return table, key, s.n, nil
			}
			have = append(have, text)
		}
	}
	if len(have) == 0 {
		return "", "", 0, fmt.Errorf("the file has no [[%s]]; write one into it", table)
	}
	return "", "", 0, fmt.Errorf("the file has no [[%s]] whose %s is %q; there is %s", table, nouns[table], which, strings.Join(have, ", "))
}

// example finds "# key = …" in a table, and says where the line after it begins.
func example(raw []byte, all []statement, table string, n int, key string) int {
	from, to := 0, len(raw)
	for _, s := range all {
		if s.key != "" {
			continue
		}
		if s.table == table && s.n == n {
			from = s.end
		} else if s.begin >= from && (table == "" || from > 0) {
			to = s.begin
			break
		}
	}
	if table != "" && from == 0 {
		return 0
	}
	for at := from; at < to; at = lineEnd(raw, at) {
		text, ok := strings.CutPrefix(strings.TrimSpace(string(raw[at:lineEnd(raw, at)])), "#")
		if left, _, assigns := strings.Cut(text, "="); ok && assigns && strings.TrimSpace(left) == key {
			return lineEnd(raw, at)
		}
	}
	return 0
}

// verify checks that nothing but one key is different, and that the file is good.
func verify(before, after []byte, name string) ([]byte, error) {
	var was, is map[string]any
	if err := toml.Unmarshal(before, &was); err != nil {
		return nil, err
	}
	_, err := coinop.ParseConfig(after)
	if err != nil {
		return nil, err
	}
	if err := toml.Unmarshal(after, &is); err != nil {
		return nil, err
	}
	if differ(was, is, "") > 1 {
		return nil, fmt.Errorf("%s stands in the file in a way that this cannot change; edit the file", name)
	}
	return after, nil
}

// differ counts the values that two files do not have in common.
func differ(a, b any, path string) (n int) {
	am, aIs := a.(map[string]any)
	bm, bIs := b.(map[string]any)
	if aIs || bIs {
		for key, v := range am {
			n += differ(v, bm[key], path+"."+key)
		}
		for key, v := range bm {
			if _, seen := am[key]; !seen {
				n += differ(nil, v, path+"."+key)
			}
		}
		return n
	}
	al, aIs := a.([]any)
	bl, bIs := b.([]any)
	if aIs && bIs && len(al) == len(bl) && len(al) > 0 {
		if _, tables := al[0].(map[string]any); tables {
			for i := range al {
				n += differ(al[i], bl[i], path)
			}
			return n
		}
	}
	if reflect.DeepEqual(a, b) {
		return 0
	}
	return 1
}

// literal is a value as TOML: of what somebody has typed.
func literal(k coinop.Key, text string) (string, error) {
	switch k.Type {
	case "boolean":
		v, err := strconv.ParseBool(text)
		if err != nil {
			return "", fmt.Errorf("%s is true or false, and not %.20q", k.Name, text)
		}
		return strconv.FormatBool(v), nil
	case "integer":
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			return "", fmt.Errorf("%s is a number, and not %.20q", k.Name, text)
		}
		return strconv.FormatUint(n, 10), nil
	case "array":
		if strings.HasPrefix(strings.TrimSpace(text), "[") {
			return strings.TrimSpace(text), nil // verify parses it
		}
		var quoted []string
		for _, word := range strings.Fields(text) {
			q, err := quote(word)
			if err != nil {
				return "", err
			}
			quoted = append(quoted, q)
		}
		return "[" + strings.Join(quoted, ", ") + "]", nil
	}
	return quote(text)
}

// quote writes a TOML basic string.
func quote(text string) (string, error) {
	for _, r := range text {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return "", fmt.Errorf("%.40q has a character that does not belong into a config", text)
		}
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`, nil
}

// replaceConfig writes a file anew, whole or not at all, for the same owner and
// readers, and keeps what it was beside it.
func replaceConfig(path string, old, content []byte) (backup string, err error) {
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	now, err := os.ReadFile(path)
	if err == nil && !bytes.Equal(now, old) {
		err = fmt.Errorf("%s was changed meanwhile; try again", path)
	}
	if err != nil {
		return "", err
	}
	backup = path + ".bak"
	for _, f := range []struct {
		path    string
		content []byte
	}{{backup, old}, {path, content}} {
		if err := write(f.path, f.content, info); err != nil {
			return "", err
		}
	}
	return backup, store.SyncDir(filepath.Dir(path))
}

func write(path string, content []byte, like os.FileInfo) error {
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		sameOwner(f, like)
		err = errors.Join(f.Chmod(like.Mode().Perm()), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return os.Rename(temporary, path)
}
