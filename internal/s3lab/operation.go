package s3lab

import "strings"

// other is the name under which operations are counted that operationName
// does not tell apart.
const other = "Other"

// request is what the name of an S3 operation depends on.
type request struct {
	method string
	path   string // path-style, still escaped or not: only its shape matters
	query  func(key string) (value string, present bool)
	header func(key string) string
}

// rule names an operation. The first rule that matches wins.
type rule struct {
	method string
	query  string // must be present when not empty
	value  string // and have this value when not empty
	header string // must be present when not empty
	name   string
}

// serviceRules, bucketRules and objectRules follow the order of the gateway's
// own routes: more particular ones first.
func serviceRules() []rule {
	return []rule{{method: "GET", name: "ListBuckets"}}
}

func bucketRules() []rule {
	return []rule{
		{method: "PUT", query: "tagging", name: "PutBucketTagging"},
		{method: "PUT", query: "versioning", name: "PutBucketVersioning"},
		{method: "PUT", query: "policy", name: "PutBucketPolicy"},
		{method: "PUT", query: "acl", name: "PutBucketAcl"},
		{method: "PUT", query: "lifecycle", name: "PutBucketLifecycleConfiguration"},
		{method: "PUT", name: "CreateBucket"},
		{method: "HEAD", name: "HeadBucket"},
		{method: "DELETE", query: "tagging", name: "DeleteBucketTagging"},
		{method: "DELETE", query: "policy", name: "DeleteBucketPolicy"},
		{method: "DELETE", name: "DeleteBucket"},
		{method: "POST", query: "delete", name: "DeleteObjects"},
		{method: "GET", query: "location", name: "GetBucketLocation"},
		{method: "GET", query: "tagging", name: "GetBucketTagging"},
		{method: "GET", query: "versioning", name: "GetBucketVersioning"},
		{method: "GET", query: "policy", name: "GetBucketPolicy"},
		{method: "GET", query: "acl", name: "GetBucketAcl"},
		{method: "GET", query: "uploads", name: "ListMultipartUploads"},
		{method: "GET", query: "versions", name: "ListObjectVersions"},
		{method: "GET", query: "list-type", value: "2", name: "ListObjectsV2"},
		{method: "GET", name: "ListObjects"},
	}
}

func objectRules() []rule {
	return []rule{
		{method: "PUT", query: "tagging", name: "PutObjectTagging"},
		{method: "PUT", query: "acl", name: "PutObjectAcl"},
		{method: "PUT", query: "retention", name: "PutObjectRetention"},
		{method: "PUT", query: "legal-hold", name: "PutObjectLegalHold"},
		{method: "PUT", query: "uploadId", header: "X-Amz-Copy-Source", name: "UploadPartCopy"},
		{method: "PUT", query: "uploadId", name: "UploadPart"},
		{method: "PUT", header: "X-Amz-Copy-Source", name: "CopyObject"},
		{method: "PUT", name: "PutObject"},
		{method: "HEAD", name: "HeadObject"},
		{method: "GET", query: "tagging", name: "GetObjectTagging"},
		{method: "GET", query: "acl", name: "GetObjectAcl"},
		{method: "GET", query: "attributes", name: "GetObjectAttributes"},
		{method: "GET", query: "retention", name: "GetObjectRetention"},
		{method: "GET", query: "legal-hold", name: "GetObjectLegalHold"},
		{method: "GET", query: "uploadId", name: "ListParts"},
		{method: "GET", name: "GetObject"},
		{method: "DELETE", query: "tagging", name: "DeleteObjectTagging"},
		{method: "DELETE", query: "uploadId", name: "AbortMultipartUpload"},
		{method: "DELETE", name: "DeleteObject"},
		{method: "POST", query: "uploads", name: "CreateMultipartUpload"},
		{method: "POST", query: "uploadId", name: "CompleteMultipartUpload"},
		{method: "POST", query: "select", name: "SelectObjectContent"},
		{method: "POST", query: "restore", name: "RestoreObject"},
	}
}

// namer names the operation of a request by its method, path and query.
type namer struct {
	service, bucket, object []rule
}

func newNamer() namer {
	return namer{service: serviceRules(), bucket: bucketRules(), object: objectRules()}
}

func (n namer) name(r request) string {
	rules := n.service
	if p := strings.TrimPrefix(r.path, "/"); p != "" {
		rules = n.bucket
		if _, key, ok := strings.Cut(p, "/"); ok && key != "" {
			rules = n.object
		}
	}
	for _, rule := range rules {
		if rule.matches(r) {
			return rule.name
		}
	}
	return other
}

func (u rule) matches(r request) bool {
	if u.method != r.method {
		return false
	}
	if u.query != "" {
		value, ok := r.query(u.query)
		if !ok || u.value != "" && u.value != value {
			return false
		}
	}
	return u.header == "" || r.header(u.header) != ""
}
