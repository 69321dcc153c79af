package s3lab

import (
	"net/http"
	"net/url"
	"testing"
)

func TestOperationsAreNamed(t *testing.T) {
	tests := []struct{ method, target, copySource, want string }{
		{"GET", "/", "", "ListBuckets"},
		{"PUT", "/b", "", "CreateBucket"},
		{"PUT", "/b/", "", "CreateBucket"},
		{"HEAD", "/b", "", "HeadBucket"},
		{"DELETE", "/b", "", "DeleteBucket"},
		{"GET", "/b?list-type=2&prefix=x", "", "ListObjectsV2"},
		{"GET", "/b?list-type=1", "", "ListObjects"},
		{"GET", "/b?prefix=x", "", "ListObjects"},
		{"GET", "/b?uploads", "", "ListMultipartUploads"},
		{"GET", "/b?versions", "", "ListObjectVersions"},
		{"GET", "/b?location", "", "GetBucketLocation"},
		{"POST", "/b?delete", "", "DeleteObjects"},
		{"PUT", "/b/k", "", "PutObject"},
		{"PUT", "/b/k?x-id=PutObject", "", "PutObject"},
		{"PUT", "/b/k", "b/other", "CopyObject"},
		{"PUT", "/b/k?partNumber=1&uploadId=u", "", "UploadPart"},
		{"PUT", "/b/k?partNumber=1&uploadId=u", "b/other", "UploadPartCopy"},
		{"PUT", "/b/k?tagging", "", "PutObjectTagging"},
		{"GET", "/b/dir/k", "", "GetObject"},
		{"GET", "/b/dir/", "", "GetObject"},
		{"GET", "/b/k?uploadId=u", "", "ListParts"},
		{"GET", "/b/k?attributes", "", "GetObjectAttributes"},
		{"HEAD", "/b/k", "", "HeadObject"},
		{"DELETE", "/b/k", "", "DeleteObject"},
		{"DELETE", "/b/k?uploadId=u", "", "AbortMultipartUpload"},
		{"POST", "/b/k?uploads", "", "CreateMultipartUpload"},
		{"POST", "/b/k?uploadId=u", "", "CompleteMultipartUpload"},
		{"POST", "/b/k", "", "Other"},
		{"PATCH", "/b/k", "", "Other"},
	}
	names := newNamer()
	for _, tt := range tests {
		u, err := url.Parse(tt.target)
		if err != nil {
			t.Fatal(err)
		}
		header := http.Header{}
		if tt.copySource != "" {
			header.Set("X-Amz-Copy-Source", tt.copySource)
		}
		got := names.name(request{
			method: tt.method,
			path:   u.Path,
			query:  func(k string) (string, bool) { return u.Query().Get(k), u.Query().Has(k) },
			header: header.Get,
		})
		if got != tt.want {
			t.Errorf("%s %s is %s, want %s", tt.method, tt.target, got, tt.want)
		}
	}
}
