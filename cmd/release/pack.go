package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// pack makes a build's archive, its package and its bill of materials.
func (r *release) pack(ctx context.Context, b build) error {
	program, err := os.ReadFile(r.binary(b))
	if err != nil {
		return err
	}
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		return err
	}
	bom, err := materials(info, program, r.version, r.at)
	if err != nil {
		return err
	}
	if err := r.write(b.name+".cdx.json", bom, nil); err != nil {
		return err
	}
	licences, err := r.licences(ctx, b)
	if err != nil {
		return err
	}
	if b.ipk != "" {
		return r.openwrt(b, program, licences)
	}
	if err := r.archive(b, program, licences); err != nil || b.deb == "" {
		return err
	}
	return r.debian(b, program, licences)
}

// write puts an artefact into dist, under the release's name.
func (r *release) write(name string, data []byte, err error) error {
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.dist, "coinop_"+strings.TrimPrefix(r.version, "v")+"_"+name), data, 0o644)
}

// A placed is a file of the checkout and where it goes.
type placed struct {
	from, to string
	mode     int64
}

func (r *release) read(all ...placed) (files []file, err error) {
	for _, p := range all {
		data, err := os.ReadFile(filepath.Join(r.root, filepath.FromSlash(p.from)))
		if err != nil {
			return nil, err
		}
		files = append(files, file{p.to, p.mode, data})
	}
	return files, nil
}

// archive is the .tar.gz: the program, and the rest in flat folders.
func (r *release) archive(b build, program, licences []byte) error {
	files, err := r.read(
		placed{"LICENSE", "LICENSE", 0o644},
		placed{"README.md", "README.md", 0o644},
		placed{"contrib/coinop.toml", "coinop.toml", 0o644},
		placed{"contrib/systemd/coinop.service", "coinop.service", 0o644},
	)
	if err != nil {
		return err
	}
	files = append(files, file{"coinop", 0o755, program}, file{"LICENSES.txt", 0o644, licences})
	for _, f := range r.manual {
		folder := "completion/"
		if strings.Contains(f.name, "/man/") {
			folder = "man/"
		}
		files = append(files, file{folder + path.Base(f.name), f.mode, f.data})
	}
	data, err := tarball(r.at, "coinop_"+strings.TrimPrefix(r.version, "v")+"_"+b.name, files)
	return r.write(b.name+".tar.gz", data, err)
}

func (r *release) debian(b build, program, licences []byte) error {
	data, err := r.read(
		placed{"contrib/coinop.toml", "etc/coinop/coinop.toml", 0o644},
		placed{"contrib/systemd/coinop.service", "usr/lib/systemd/system/coinop.service", 0o644},
		placed{"LICENSE", "usr/share/doc/coinop/copyright", 0o644},
		placed{"CHANGELOG.md", "usr/share/doc/coinop/changelog", 0o644},
	)
	if err != nil {
		return err
	}
	data = append(data, file{"usr/bin/coinop", 0o755, program}, file{"usr/share/doc/coinop/LICENSES.txt", 0o644, licences})
	data = append(data, r.manual...)
	for i, f := range data {
		if strings.Contains(f.name, "/man/") || strings.HasSuffix(f.name, "/changelog") || strings.HasSuffix(f.name, ".txt") {
			data[i].name += ".gz"
			if data[i].data, err = zip(f.data); err != nil {
				return err
			}
		}
	}
	control, err := r.read(
		placed{"contrib/debian/control", "control", 0o644},
		placed{"contrib/debian/conffiles", "conffiles", 0o644},
		placed{"contrib/debian/postinst", "postinst", 0o755},
		placed{"contrib/debian/prerm", "prerm", 0o755},
		placed{"contrib/debian/postrm", "postrm", 0o755},
	)
	if err != nil {
		return err
	}
	r.fill(control, b.deb, data)
	all, err := debian(r.at, control, data)
	return r.write(b.deb+".deb", all, err)
}

func (r *release) openwrt(b build, program, licences []byte) error {
	data, err := r.read(
		placed{"contrib/coinop.toml", "etc/coinop/coinop.toml", 0o644},
		placed{"contrib/openwrt/files/coinop.init", "etc/init.d/coinop", 0o755},
		placed{"contrib/openwrt/files/coinop.keep", "lib/upgrade/keep.d/coinop", 0o644},
	)
	if err != nil {
		return err
	}
	data = append(data, file{"usr/bin/coinop", 0o755, program}, file{"usr/share/licenses/coinop/LICENSES.txt", 0o644, licences})
	control, err := r.read(
		placed{"contrib/openwrt/control", "control", 0o644},
		placed{"contrib/debian/conffiles", "conffiles", 0o644},
		placed{"contrib/openwrt/postinst", "postinst", 0o755},
		placed{"contrib/openwrt/prerm", "prerm", 0o755},
	)
	if err != nil {
		return err
	}
	r.fill(control, b.ipk, data)
	all, err := openwrt(r.at, control, data)
	return r.write(b.ipk+".ipk", all, err)
}

// fill completes the control file, which is the first. Debian and OpenWrt sort
// "~" before the end, so that v1.0.0-rc.1 comes before v1.0.0.
func (r *release) fill(control []file, architecture string, data []file) {
	kib := installed(data)
	bytes := strconv.Itoa(kib * 1024)
	control[0].data = []byte(strings.NewReplacer(
		"${VERSION}", strings.ReplaceAll(strings.TrimPrefix(r.version, "v"), "-", "~"),
		"${ARCHITECTURE}", architecture, "${KIB}", strconv.Itoa(kib), "${BYTES}", bytes,
	).Replace(string(control[0].data)))
}

var licenceName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)(\.|-|$)`)

// licences is the text of our licence, Go's, and that of every module inside a
// build: most of them ask that a copy goes with the program. A text that several
// share stands once.
func (r *release) licences(ctx context.Context, b build) ([]byte, error) {
	raw, err := r.command(ctx, b, "list", "-deps", "-tags", b.tags, "-f", "{{with .Module}}{{.Path}} {{.Version}}\t{{.Dir}}{{end}}", r.program).Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	goroot, err := r.command(ctx, b, "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	modules := slices.Compact(slices.Sorted(strings.Lines(string(raw))))
	modules = append(modules, "Go\t"+string(goroot))
	var texts []string
	users := map[string][]string{}
	for _, line := range modules {
		name, dir, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok {
			continue // the standard library
		}
		found, err := licencesIn(dir)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s has no licence in %s: it cannot be given to others", name, dir)
		}
		for _, text := range found {
			if users[text] == nil {
				texts = append(texts, text)
			}
			users[text] = append(users[text], strings.TrimSpace(name))
		}
	}
	var out bytes.Buffer
	for _, text := range texts {
		fmt.Fprintf(&out, "%s\n\n%s\n\n%s\n\n", strings.Join(users[text], "\n"), strings.TrimSpace(text), strings.Repeat("-", 72))
	}
	return out.Bytes(), nil
}

func licencesIn(dir string) (texts []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() || !licenceName.MatchString(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		texts = append(texts, string(text))
	}
	return texts, nil
}
