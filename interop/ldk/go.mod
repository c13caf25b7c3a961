module coinop.dev/interop/ldk

go 1.26.0

require github.com/getAlby/ldk-node-go v0.0.0-20251204045546-a327ac13549f
