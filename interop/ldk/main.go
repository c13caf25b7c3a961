package main

import "github.com/getAlby/ldk-node-go/ldk_node"

func main() { println(ldk_node.DefaultConfig().StorageDirPath) }
