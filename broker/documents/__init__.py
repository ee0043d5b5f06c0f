"""What people write, YAML and JSON, read strictly: unknown fields, duplicate keys, loose types and NaN are refused.

Every fault names document, line, field, and what would be right.
"""

from broker.documents.bodies import DatasetBody, LinkBody, SiteBody, TenantBody
from broker.documents.job import JobBody
from broker.documents.reading import Document, DocumentError, parse_documents, parse_json
from broker.documents.values import body_of, dataset_of, job_of, link_of, site_of, tenant_of

__all__ = [
    "DatasetBody",
    "Document",
    "DocumentError",
    "JobBody",
    "LinkBody",
    "SiteBody",
    "TenantBody",
    "body_of",
    "dataset_of",
    "job_of",
    "link_of",
    "parse_documents",
    "parse_json",
    "site_of",
    "tenant_of",
]
