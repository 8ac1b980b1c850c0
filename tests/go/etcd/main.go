// Command etcd is the unmodified etcd, etcdctl and etcdutl, built from their published modules, and a client program of
// ours on their Go library: the referees of the store's tests. One program, so that one build links all four; which one
// runs is the name it is called by, or else its first argument.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
	"go.etcd.io/etcd/server/v3/etcdmain"
)

var parts = map[string]func(){
	"etcd":        func() { etcdmain.Main(os.Args) },
	"etcdctl":     ctlv3.MustStart,
	"etcdutl":     runEtcdutl,
	"etcd-client": runClient,
}

func main() {
	name := filepath.Base(os.Args[0])
	part, found := parts[name]
	if !found && len(os.Args) > 1 {
		part, found = parts[os.Args[1]]
		os.Args = os.Args[1:]
	}
	if !found {
		fmt.Fprintln(os.Stderr, "call it by one of the names etcd, etcdctl, etcdutl, etcd-client")
		os.Exit(2)
	}
	part()
}

// runEtcdutl puts etcdutl's commands under one root, as its own main package does.
func runEtcdutl() {
	cobra.EnablePrefixMatching = true
	root := &cobra.Command{Use: "etcdutl", Short: "An administrative command line tool for etcd3."}
	root.PersistentFlags().StringVarP(&etcdutl.OutputFormat, "write-out", "w", "simple", "the output format (fields, json, protobuf, simple, table)")
	root.AddCommand(
		etcdutl.NewDefragCommand(),
		etcdutl.NewSnapshotCommand(),
		etcdutl.NewHashKVCommand(),
		etcdutl.NewVersionCommand(),
		etcdutl.NewMigrateCommand(),
	)
	if err := root.Execute(); err != nil {
		os.Exit(1)
	}
}
