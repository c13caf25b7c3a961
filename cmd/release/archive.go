package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/md5"
	"fmt"
	"path"
	"slices"
	"time"
)

// A file is what goes into an archive. Its owner is root.
type file struct {
	name string // with slashes, from the top
	mode int64
	data []byte
}

// tarball is a .tar.gz with top as its one folder, the folders between, sorted.
func tarball(at time.Time, top string, files []file) ([]byte, error) {
	all := slices.Clone(files)
	for _, f := range files {
		for dir := path.Dir(f.name); dir != "."; dir = path.Dir(dir) {
			all = append(all, file{name: dir + "/", mode: 0o755})
		}
	}
	all = append(all, file{name: "", mode: 0o755})
	slices.SortFunc(all, func(a, b file) int { return cmp.Compare(a.name, b.name) })
	all = slices.CompactFunc(all, func(a, b file) bool { return a.name == b.name })

	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	for _, f := range all {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: top + "/" + f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: at, Uname: "root", Gname: "root", Format: tar.FormatGNU}
		if h.Name[len(h.Name)-1] == '/' {
			h.Typeflag = tar.TypeDir
		}
		if err := t.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := t.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	err = z.Close()
	return out.Bytes(), err
}

// zip is data as gzip -9n leaves it.
func zip(data []byte) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(data); err != nil {
		return nil, err
	}
	err = z.Close()
	return out.Bytes(), err
}

// ar is the archive of deb(5): a line of 60 bytes before each file, and an even
// start.
func ar(at time.Time, files []file) []byte {
	var out bytes.Buffer
	out.WriteString("!<arch>\n")
	for _, f := range files {
		fmt.Fprintf(&out, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", f.name, at.Unix(), 0, 0, 0o100000|f.mode, len(f.data))
		out.Write(f.data)
		if len(f.data)%2 != 0 {
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

// debian is a Debian package, deb(5), of what control says and data holds.
func debian(at time.Time, control, data []file) ([]byte, error) {
	var sums bytes.Buffer
	for _, f := range data {
		fmt.Fprintf(&sums, "%x  %s\n", md5.Sum(f.data), f.name)
	}
	c, err := tarball(at, ".", append(control, file{"md5sums", 0o644, sums.Bytes()}))
	if err != nil {
		return nil, err
	}
	d, err := tarball(at, ".", data)
	if err != nil {
		return nil, err
	}
	return ar(at, []file{{"debian-binary", 0o644, []byte("2.0\n")}, {"control.tar.gz", 0o644, c}, {"data.tar.gz", 0o644, d}}), nil
}

// openwrt is an OpenWrt package up to 24.10: the same parts, in a tarball.
func openwrt(at time.Time, control, data []file) ([]byte, error) {
	c, err := tarball(at, ".", control)
	if err != nil {
		return nil, err
	}
	d, err := tarball(at, ".", data)
	if err != nil {
		return nil, err
	}
	return tarball(at, ".", []file{{"debian-binary", 0o644, []byte("2.0\n")}, {"control.tar.gz", 0o644, c}, {"data.tar.gz", 0o644, d}})
}

// installed is the size of files on a disk, in KiB, as packages state it.
func installed(files []file) (kib int) {
	for _, f := range files {
		kib += (len(f.data) + 1023) / 1024
	}
	return kib
}
