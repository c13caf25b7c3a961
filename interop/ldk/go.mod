// The wrapper that pins LDK Node. It is in Rust, and comes as a shared library
// with Go bindings: those need a C compiler, and nothing else of coinop's may.
module coinop.dev/interop/ldk

go 1.26.0

require github.com/getAlby/ldk-node-go v0.0.0-20251204045546-a327ac13549f
