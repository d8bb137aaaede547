-- Customers by the month of their first purchase, and who of them bought in which month after it.
WITH first AS (
    SELECT customer_id, trunc(min(day), 'MM') AS cohort FROM bought GROUP BY customer_id
), active AS (
    SELECT cohort,
           CAST(months_between(trunc(day, 'MM'), cohort) AS INT) AS month,
           customer_id,
           count(*) AS purchases,
           sum(amount) AS amount
      FROM bought JOIN first USING (customer_id)
     WHERE in_window GROUP BY 1, 2, 3
)
SELECT cohort,
       month,
       count(*) AS customers,
       sum(purchases) AS purchases,
       sum(amount) AS amount
  FROM active GROUP BY cohort, month ORDER BY cohort, month
