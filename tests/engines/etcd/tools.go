//go:build tools

// Package etcd pins the etcd that tests kill: `go install pkg@version` refuses its module, which has replace directives.
package etcd

import _ "go.etcd.io/etcd/server/v3"
