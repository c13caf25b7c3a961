//go:build !linux

package lightclient

func usage() Answer { return Answer{} }
