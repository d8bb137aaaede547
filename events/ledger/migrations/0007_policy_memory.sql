-- Breaks processes that know no step after 0006.
--
-- What policies remember beside the stream that they answer: whose a deal is. It is folded from the
-- ledger, and made anew when it is missing.
CREATE TABLE progress.deals_of_customers (
    deal_id     uuid PRIMARY KEY,
    customer_id uuid NOT NULL,
    position    bigint NOT NULL
);
CREATE INDEX deals_of_customer ON progress.deals_of_customers (customer_id, position);
GRANT SELECT, INSERT, DELETE ON progress.deals_of_customers TO pledge_service;
